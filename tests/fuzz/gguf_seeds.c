/* Writes the seed corpus of fuzz_gguf into a directory: gguf_seeds tests/fuzz/corpus/gguf */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gguf_sample.h"

static int failures;

static void save_bytes(const char *directory, const char *name, const void *bytes, size_t size)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (!gguf_writer_save_bytes(path, bytes, size)) {
        perror(path);
        failures++;
    }
}

/* Frees w. */
static void save(const char *directory, const char *name, struct gguf_writer *w)
{
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    gguf_writer_free(w);
    save_bytes(directory, name, bytes, size);
    free(bytes);
}

/* One tensor of every type that has an id, small enough for any block size to fit. */
static struct gguf_writer *all_types(void)
{
    struct gguf_writer *w = gguf_writer_new(3);
    char name[32];
    for (uint32_t type = 0; type < 43; type++) {
        bool readable = type <= 3 || (type >= 6 && type <= 8) || (type >= 10 && type <= 14) ||
                        (type >= 16 && type <= 18) || (type >= 20 && type <= 23) || type == 26 ||
                        type == 30 || type == 39;
        if (!readable)
            continue;
        snprintf(name, sizeof name, "blk.0.type_%u.weight", type);
        gguf_writer_tensor(w, name, type, 2, (const uint64_t[]){256, 1}, NULL, 1024);
    }
    return w;
}

static struct gguf_writer *model_like(void)
{
    static const char *const tokens[] = {"<|endoftext|>", "a", "b", "ab", "\xc4\xa0", "0"};
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_string(w, "general.architecture", "qwen35moe");
    gguf_writer_u32(w, "qwen35moe.block_count", 3);
    gguf_writer_u32(w, "qwen35moe.nextn_predict_layers", 1);
    gguf_writer_f32(w, "qwen35moe.attention.layer_norm_rms_epsilon", 1e-6f);
    gguf_writer_array(w, "qwen35moe.attention.head_count_kv", 5, (const int32_t[]){2, 2, 2}, 3, 4);
    gguf_writer_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_strings(w, "tokenizer.ggml.tokens", tokens, 6);
    gguf_writer_array(w, "tokenizer.ggml.token_type", 5, (const int32_t[]){3, 1, 1, 1, 1, 1}, 6, 4);
    gguf_writer_strings(w, "tokenizer.ggml.merges", (const char *const[]){"a b"}, 1);
    gguf_writer_tensor(w, "token_embd.weight", 12, 2, (const uint64_t[]){256, 6}, NULL, 6 * 144);
    gguf_writer_tensor(w, "output_norm.weight", 0, 1, (const uint64_t[]){256}, NULL, 1024);
    return w;
}

static struct gguf_writer *split_part(void)
{
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_u16(w, "split.no", 1);
    gguf_writer_u16(w, "split.count", 2);
    gguf_writer_i32(w, "split.tensors.count", 3);
    gguf_writer_tensor(w, "a", 0, 1, (const uint64_t[]){8}, NULL, 32);
    return w;
}

static struct gguf_writer *broken(void)
{
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_tensor(w, "a", 0, 1, (const uint64_t[]){24}, NULL, 96);
    gguf_writer_tensor_at(w, "b", 0, 1, (const uint64_t[]){8}, 64);
    return w;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: gguf_seeds DIRECTORY\n");
        return 2;
    }
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n";
    save(argv[1], "every-value-v2.gguf", gguf_sample(2));
    save(argv[1], "every-value-v3.gguf", gguf_sample(3));
    save(argv[1], "every-type.gguf", all_types());
    save(argv[1], "like-a-model.gguf", model_like());
    save(argv[1], "split-part.gguf", split_part());
    save(argv[1], "overlap.gguf", broken());
    save(argv[1], "nothing.gguf", gguf_writer_new(3));
    save(argv[1], "big-endian.gguf", gguf_writer_new(0x03000000));
    save_bytes(argv[1], "lfs-pointer", lfs, sizeof lfs - 1);
    save_bytes(argv[1], "web-page", "<!DOCTYPE html><html>", 21);
    save_bytes(argv[1], "safetensors", "\x10\0\0\0\0\0\0\0{\"a\":1}", 15);
    save_bytes(argv[1], "zip", "PK\3\4....", 8);
    return failures > 0;
}
