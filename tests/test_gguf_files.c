/* GGUF files on disk: what is no model at all, and split models. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "gguf_internal.h"
#include "tests/gguf_sample.h"

static int enter_directory(void **state)
{
    char *directory = strdup("/tmp/mtp-gguf-XXXXXX");
    *state = directory;
    return directory == NULL || mkdtemp(directory) == NULL || chdir(directory) != 0;
}

static int remove_files(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", (char *)*state);
    int failed = chdir("/") != 0 || system(command) != 0;
    free(*state);
    return failed;
}

static void refuse(const char *path, enum mtp_status status, const char *sentence)
{
    struct gguf *file = (struct gguf *)(uintptr_t)path;
    struct mtp_error error = {MTP_OK, ""};
    assert_int_equal(gguf_open(&file, path, &error), status);
    assert_string_equal(error.message, sentence);
    assert_int_equal(error.status, status);
    assert_null(file);
    assert_int_equal(gguf_open(&file, path, NULL), status);
}

static void refuse_content(const void *bytes, size_t size, const char *sentence)
{
    assert_true(gguf_writer_save_bytes("m.gguf", bytes, size));
    refuse("m.gguf", MTP_ERR_FORMAT, sentence);
}

/* Frees w. */
static void save(struct gguf_writer *w, const char *path)
{
    assert_true(gguf_writer_save(w, path));
    gguf_writer_free(w);
}

/* ---- no model at all ------------------------------------------------------------------------- */

static void a_file_that_cannot_be_opened_says_why(void **state)
{
    (void)state;
    refuse("absent.gguf", MTP_ERR_IO, "cannot open absent.gguf: No such file or directory");
    refuse("", MTP_ERR_IO, "cannot open : No such file or directory");
    save(gguf_sample(3), "secret.gguf");
    assert_int_equal(chmod("secret.gguf", 0), 0);
    bool root = geteuid() == 0; /* who may read anything, so be nobody for a moment */
    assert_true(!root || seteuid(65534) == 0);
    refuse("secret.gguf", MTP_ERR_IO, "cannot open secret.gguf: Permission denied");
    assert_true(!root || seteuid(0) == 0);
    assert_int_equal(symlink("loop.gguf", "loop.gguf"), 0);
    refuse("loop.gguf", MTP_ERR_IO, "cannot open loop.gguf: Too many levels of symbolic links");
}

static void what_is_not_a_regular_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkdir("models", 0700), 0);
    refuse("models", MTP_ERR_IO, "models is a directory; name the .gguf file itself");
    assert_int_equal(mkfifo("pipe", 0600), 0);
    refuse("pipe", MTP_ERR_IO,
           "pipe is not a regular file; a model cannot be read from a pipe or a device");
    refuse_content("", 0, "m.gguf is an empty file");
}

static void a_long_path_leaves_room_for_the_sentence(void **state)
{
    (void)state;
    char path[3000];
    memset(path, 'x', sizeof path);
    memcpy(path + 2990, "/end.gguf", 10);
    struct gguf *file;
    struct mtp_error error;
    assert_int_equal(gguf_open(&file, path, &error), MTP_ERR_IO);
    assert_memory_equal(error.message, "cannot open ...xxx", 18);
    assert_non_null(strstr(error.message, "xxx/end.gguf: File name too long"));
}

static void a_git_lfs_pointer_is_called_one(void **state)
{
    (void)state;
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\n"
                                  "oid sha256:4d7a\nsize 16806000000\n";
    refuse_content(pointer, sizeof pointer - 1,
                   "m.gguf is a git-LFS pointer to a file of 16806000000 bytes and not the model "
                   "itself; run 'git lfs pull' in its repository or download the file");
    refuse_content(pointer, 43,
                   "m.gguf is a git-LFS pointer and not the model itself; run 'git lfs pull' in "
                   "its repository or download the file");
}

static void other_formats_are_called_by_their_names(void **state)
{
    (void)state;
#define CONVERT "; download a GGUF of the model or convert it to GGUF"
#define NOT "m.gguf is not a GGUF file: "
    static const char page[] = NOT "it is a web page, saved in place of the model; check the "
                                   "download link (and whether it needs a login)";
    static const char old[] =
        NOT "it looks like a model in the format that came before GGUF in 2023" CONVERT;
    refuse_content("PK\3\4...", 7, NOT "it looks like a zip archive such as a PyTorch checkpoint"
                                       CONVERT);
    refuse_content("\x80\2}q", 4, NOT "it looks like a pickled PyTorch checkpoint" CONVERT);
    refuse_content("\x10\0\0\0\0\0\0\0{\"a\":1}", 15,
                   NOT "it looks like a safetensors file" CONVERT);
    refuse_content("\n <!DOCTYPE html>\n<html>", 24, page);
    refuse_content("<html lang=en>", 14, page);
    refuse_content("lmgg....", 8, old);
    refuse_content("fmgg....", 8, old);
    refuse_content("tjgg....", 8, old);
    refuse_content("\x1f\x8b\x08..", 5, NOT "it looks like a gzip archive; unpack it first");
    refuse_content("\x28\xb5\x2f\xfd..", 6, NOT "it looks like a zstd archive; unpack it first");
    refuse_content("\xfd" "7zXZ\0", 6, NOT "it looks like an xz archive; unpack it first");
    refuse_content("7z\xbc\xaf\x27\x1c", 6, NOT "it looks like a 7z archive; unpack it first");
    refuse_content("\x89HDF\r\n\x1a\n", 8, NOT "it looks like an HDF5 (Keras) checkpoint" CONVERT);
    refuse_content("Entry not found\n", 16, NOT "it is text that begins 'Entry not found'");
    refuse_content("\1\2\3\4\5\6", 6, NOT "its first four bytes are not 'GGUF'");
#undef NOT
#undef CONVERT
}

/* ---- unfinished downloads -------------------------------------------------------------------- */

static void reserved_space_of_a_download_is_recognised(void **state)
{
    (void)state;
    static const char zeros[8192];
    refuse_content(zeros, sizeof zeros,
                   "m.gguf is not a GGUF file: it begins with zeros, as an unfinished download "
                   "does whose space was reserved beforehand");
}

static void the_name_of_an_unfinished_download_is_mentioned(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_tensor(w, "one", 0, 1, (const uint64_t[]){8}, NULL, 32);
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    gguf_writer_free(w);
    assert_true(gguf_writer_save_bytes("a.gguf.part", bytes, size - 4));
    refuse("a.gguf.part", MTP_ERR_FORMAT,
           "a.gguf.part is truncated: it ends inside tensor 'one', 4 of 96 bytes are missing; its "
           "header is whole, so this looks like an unfinished download or copy; by its name "
           "(.part) it is an unfinished download");
    assert_true(gguf_writer_save_bytes("b.gguf.incomplete", bytes, 10));
    refuse("b.gguf.incomplete", MTP_ERR_FORMAT,
           "b.gguf.incomplete is truncated: it has only 10 bytes, not even a header of 24; by its "
           "name (.incomplete) it is an unfinished download");
    /* aria2 reserves the space, so that the file itself may look whole. */
    assert_true(gguf_writer_save_bytes("c.gguf", bytes, size));
    assert_true(gguf_writer_save_bytes("c.gguf.aria2", "", 0));
    refuse("c.gguf", MTP_ERR_FORMAT, "c.gguf is an unfinished download: aria2's control file "
                                     "c.gguf.aria2 is still beside it");
    assert_int_equal(unlink("c.gguf.aria2"), 0);
    struct gguf *file;
    assert_int_equal(gguf_open(&file, "c.gguf", NULL), MTP_OK);
    gguf_close(file);
    free(bytes);
}

static void a_whole_file_opens_whatever_its_name(void **state)
{
    (void)state;
    save(gguf_sample(3), "whole.tmp");
    struct gguf *file;
    assert_int_equal(gguf_open(&file, "whole.tmp", NULL), MTP_OK);
    assert_int_equal(gguf_n_tensors(file), 4);
    assert_string_equal(gguf_path(file), "whole.tmp");
    gguf_walk(file);
    gguf_close(file);
}

/* ---- split models ---------------------------------------------------------------------------- */

struct split {
    uint16_t number; /* from 0 */
    uint16_t count;
    int32_t n_tensors;
    const char *tensor; /* or NULL */
};

static void save_part(const char *path, struct split split)
{
    struct gguf_writer *w = gguf_writer_new(3);
    if (split.number == 0)
        gguf_writer_string(w, "general.architecture", "qwen35");
    gguf_writer_u16(w, "split.no", split.number);
    gguf_writer_u16(w, "split.count", split.count);
    gguf_writer_i32(w, "split.tensors.count", split.n_tensors);
    if (split.tensor != NULL)
        gguf_writer_tensor(w, split.tensor, 0, 1, (const uint64_t[]){8}, NULL, 32);
    save(w, path);
}

#define PART1 "m-00001-of-00003.gguf"
#define PART2 "m-00002-of-00003.gguf"
#define PART3 "m-00003-of-00003.gguf"

/* The first part holds no tensors, as some splitters have it. */
static void save_model(void)
{
    save_part(PART1, (struct split){0, 3, 2, NULL});
    save_part(PART2, (struct split){1, 3, 2, "two"});
    save_part(PART3, (struct split){2, 3, 2, "three"});
}

static void a_split_model_opens_from_its_first_part(void **state)
{
    (void)state;
    struct gguf *file;
    struct mtp_error error = {MTP_OK, ""};
    struct stat info;
    save_model();
    gguf_open(&file, "./" PART1, &error);
    assert_string_equal(error.message, "");
    assert_int_equal(gguf_n_parts(file), 3);
    assert_string_equal(gguf_part_path(file, 2), "./" PART3);
    assert_int_equal(gguf_n_tensors(file), 2);
    assert_int_equal(gguf_find_tensor(file, "two")->part, 1);
    assert_int_equal(gguf_find_tensor(file, "three")->part, 2);
    assert_int_equal(((const unsigned char *)gguf_find_tensor(file, "three")->data)[31], 32);
    assert_true(gguf_has(file, "general.architecture"));
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(stat(gguf_part_path(file, i), &info), 0);
        bytes += (uint64_t)info.st_size;
    }
    assert_int_equal(gguf_file_bytes(file), bytes);
    gguf_walk(file);
    gguf_close(file);
}

static void another_part_first_names_the_file_to_open(void **state)
{
    (void)state;
    save_model();
    refuse("./" PART2, MTP_ERR_USAGE,
           "./" PART2 " is part 2 of 3 of a split model; open its first part instead, " PART1);
    save_part("renamed.gguf", (struct split){2, 3, 2, "three"});
    refuse("renamed.gguf", MTP_ERR_USAGE,
           "renamed.gguf is part 3 of 3 of a split model; open its first part instead, the file "
           "whose name ends in -00001-of-00003.gguf");
}

static void a_missing_part_is_named(void **state)
{
    (void)state;
    save_model();
    assert_int_equal(unlink(PART3), 0);
    refuse(PART1, MTP_ERR_IO,
           PART1 " is split into 3 files and part 3, " PART3 ", is missing beside it");
    assert_true(gguf_writer_save_bytes(PART3 ".part", "GG", 2));
    refuse(PART1, MTP_ERR_IO, PART1 " is split into 3 files and part 3, " PART3 ", is missing "
                                    "beside it (its unfinished download with .part is there)");
}

static void a_renamed_first_part_cannot_find_the_others(void **state)
{
    (void)state;
    save_part("model.gguf", (struct split){0, 3, 2, "one"});
    refuse("model.gguf", MTP_ERR_FORMAT,
           "model.gguf is the first part of a split model of 3 files, but its name does not end in "
           "-00001-of-00003.gguf, so the others cannot be found; give the parts their names back");
    save_part("m-00001-of-00004.gguf", (struct split){0, 3, 2, "one"});
    struct gguf *file;
    assert_int_equal(gguf_open(&file, "m-00001-of-00004.gguf", NULL), MTP_ERR_FORMAT);
}

static void a_wrong_part_is_refused(void **state)
{
    (void)state;
    save_model();
    save_part(PART2, (struct split){2, 3, 2, "three"});
    refuse(PART1, MTP_ERR_FORMAT,
           PART2 " is a wrong part: part 2 of 3 belongs here, but its keys 'split.no' and "
                 "'split.count' say 3 of 3");
    save_part(PART2, (struct split){1, 4, 2, "two"});
    refuse(PART1, MTP_ERR_FORMAT,
           PART2 " is a wrong part: part 2 of 3 belongs here, but its keys 'split.no' and "
                 "'split.count' say 2 of 4");
    save_part(PART2, (struct split){1, 3, 9, "two"});
    refuse(PART1, MTP_ERR_FORMAT,
           PART2 " is a part of another model: its key 'split.tensors.count' is 9, the first "
                 "part's is 2");
    save_part(PART2, (struct split){1, 3, 2, NULL});
    refuse(PART1, MTP_ERR_FORMAT,
           PART1 ": its 3 parts hold 1 tensors in all, but key 'split.tensors.count' promises 2");
    save_part(PART2, (struct split){1, 3, 2, "three"});
    refuse(PART1, MTP_ERR_FORMAT, PART3 ": damaged: tensor 'three' occurs twice");
    save(gguf_writer_new(3), PART2);
    refuse(PART1, MTP_ERR_FORMAT, PART2 ": key 'split.no' is missing");
    assert_true(gguf_writer_save_bytes(PART2, "<html>", 6));
    refuse(PART1, MTP_ERR_FORMAT,
           PART2 " is not a GGUF file: it is a web page, saved in place of the model; check the "
                 "download link (and whether it needs a login)");
}

static void absurd_split_keys_are_refused(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_u32(w, "split.no", 0);
    gguf_writer_u32(w, "split.count", 4000000000u);
    save(w, PART1);
    refuse(PART1, MTP_ERR_FORMAT,
           PART1 ": damaged: key 'split.no' is 0 and 'split.count' 4000000000");
    save_part(PART1, (struct split){7, 3, 2, NULL});
    refuse(PART1, MTP_ERR_FORMAT, PART1 ": damaged: key 'split.no' is 7 and 'split.count' 3");
    w = gguf_writer_new(3);
    gguf_writer_u32(w, "split.count", 3);
    save(w, PART1);
    refuse(PART1, MTP_ERR_FORMAT, PART1 ": key 'split.no' is missing");
    w = gguf_writer_new(3);
    gguf_writer_string(w, "split.count", "3");
    save(w, PART1);
    refuse(PART1, MTP_ERR_FORMAT,
           PART1 ": key 'split.count' is of type string where an integer is expected");
    save_part("whole.gguf", (struct split){0, 1, 1, "one"});
    struct gguf *file;
    assert_int_equal(gguf_open(&file, "whole.gguf", NULL), MTP_OK);
    gguf_close(file);
}

static void a_part_in_memory_cannot_find_the_others(void **state)
{
    (void)state;
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_u32(w, "split.count", 3);
    size_t size;
    unsigned char *bytes = gguf_writer_finish(w, &size);
    struct gguf *file;
    struct mtp_error error;
    assert_int_equal(gguf_open_memory(&file, bytes, size, "m", &error), MTP_ERR_USAGE);
    assert_string_equal(error.message,
                        "m: one part of a split file cannot be opened from memory");
    assert_int_equal(gguf_open_memory(&file, bytes + 1, size - 1, "m", &error), MTP_ERR_USAGE);
    assert_string_equal(error.message, "m: the bytes must be aligned to 8");
    free(bytes);
    gguf_writer_free(w);
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, enter_directory, remove_files)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(a_file_that_cannot_be_opened_says_why),
        IN_DIRECTORY(what_is_not_a_regular_file_is_refused),
        IN_DIRECTORY(a_long_path_leaves_room_for_the_sentence),
        IN_DIRECTORY(a_git_lfs_pointer_is_called_one),
        IN_DIRECTORY(other_formats_are_called_by_their_names),
        IN_DIRECTORY(reserved_space_of_a_download_is_recognised),
        IN_DIRECTORY(the_name_of_an_unfinished_download_is_mentioned),
        IN_DIRECTORY(a_whole_file_opens_whatever_its_name),
        IN_DIRECTORY(a_split_model_opens_from_its_first_part),
        IN_DIRECTORY(another_part_first_names_the_file_to_open),
        IN_DIRECTORY(a_missing_part_is_named),
        IN_DIRECTORY(a_renamed_first_part_cannot_find_the_others),
        IN_DIRECTORY(a_wrong_part_is_refused),
        IN_DIRECTORY(absurd_split_keys_are_refused),
        IN_DIRECTORY(a_part_in_memory_cannot_find_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
