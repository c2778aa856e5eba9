/* Says what a file is when it is not a GGUF file we can read. */
#include "gguf_internal.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

struct signature {
    const char *bytes;
    size_t length;
    const char *what;
};

#define SIGNATURE(bytes, what) {bytes, sizeof bytes - 1, what}

#define CONVERT "; download a GGUF of the model or convert it to GGUF"
#define OLD_GGML "a model in the format that came before GGUF in 2023" CONVERT
#define PACKED "; unpack it first"

static const struct signature signatures[] = {
    SIGNATURE("PK\x03\x04", "a zip archive such as a PyTorch checkpoint" CONVERT),
    SIGNATURE("\x80\x02", "a pickled PyTorch checkpoint" CONVERT),
    SIGNATURE("\x80\x03", "a pickled PyTorch checkpoint" CONVERT),
    SIGNATURE("\x80\x04", "a pickled PyTorch checkpoint" CONVERT),
    SIGNATURE("lmgg", OLD_GGML),   /* "ggml" as a little-endian word */
    SIGNATURE("fmgg", OLD_GGML),   /* ggmf */
    SIGNATURE("tjgg", OLD_GGML),   /* ggjt */
    SIGNATURE("algg", "a LoRA adapter in the format that came before GGUF"), /* ggla */
    SIGNATURE("\x89HDF\r\n\x1a\n", "an HDF5 (Keras) checkpoint" CONVERT),
    SIGNATURE("\x1f\x8b", "a gzip archive" PACKED),
    SIGNATURE("\x28\xb5\x2f\xfd", "a zstd archive" PACKED),
    SIGNATURE("\xfd" "7zXZ", "an xz archive" PACKED),
    SIGNATURE("7z\xbc\xaf", "a 7z archive" PACKED),
    SIGNATURE("BZh", "a bzip2 archive" PACKED),
    SIGNATURE("\x7f" "ELF", "a program"),
};
#define N_SIGNATURES (sizeof signatures / sizeof signatures[0])

static uint32_t read_u32(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint64_t read_u64(const unsigned char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static bool begins_with(const struct gguf_part *part, const char *bytes, size_t length)
{
    return part->size >= length && memcmp(part->data, bytes, length) == 0;
}

static size_t first_visible(const struct gguf_part *part)
{
    size_t at = 0;
    while (at < part->size && at < 1024 && isspace(part->data[at]))
        at++;
    return at;
}

static bool is_web_page(const struct gguf_part *part)
{
    size_t at = first_visible(part);
    const char *text = (const char *)part->data + at;
    size_t left = part->size - at;
    return (left >= 9 && strncasecmp(text, "<!doctype", 9) == 0) ||
           (left >= 5 && (strncasecmp(text, "<html", 5) == 0 ||
                          strncasecmp(text, "<?xml", 5) == 0));
}

static bool is_safetensors(const struct gguf_part *part)
{
    if (part->size < 10 || part->data[8] != '{')
        return false;
    uint64_t header = read_u64(part->data);
    return header >= 2 && header < ((uint64_t)1 << 32);
}

static bool is_zeros(const struct gguf_part *part)
{
    size_t n = part->size < 4096 ? part->size : 4096;
    for (size_t i = 0; i < n; i++) {
        if (part->data[i] != 0)
            return false;
    }
    return true;
}

/* Length of the text at the start of the file, up to the end of the line; 0 when it is no text. */
static size_t text_length(const struct gguf_part *part)
{
    size_t at = first_visible(part);
    size_t n = 0;
    while (n < 64 && at + n < part->size) {
        unsigned char c = part->data[at + n];
        if (c == '\n' || c == '\r')
            return n;
        if (c < 0x20 || c >= 0x7f)
            return 0;
        n++;
    }
    return n;
}

static enum mtp_status fail_lfs_pointer(const struct gguf_part *part, struct mtp_error *error)
{
    char text[256];
    size_t n = part->size < sizeof text - 1 ? part->size : sizeof text - 1;
    memcpy(text, part->data, n);
    text[n] = '\0';
    const char *size = strstr(text, "\nsize ");
    int digits = size == NULL ? 0 : (int)strspn(size + 6, "0123456789");
    if (digits == 0 || digits > 20)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s is a git-LFS pointer and not the model itself; run 'git lfs pull' in "
                        "its repository or download the file", part->label);
    return mtp_fail(error, MTP_ERR_FORMAT,
                    "%s is a git-LFS pointer to a file of %.*s bytes and not the model itself; "
                    "run 'git lfs pull' in its repository or download the file", part->label,
                    digits, size + 6);
}

static enum mtp_status fail_foreign(const struct gguf_part *part, struct mtp_error *error)
{
    const char *const name = part->label;
    if (begins_with(part, "version https://git-lfs", 23))
        return fail_lfs_pointer(part, error);
    if (begins_with(part, "FUGG", 4))
        return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                        "%s is a big-endian GGUF file; only little-endian ones can be read", name);
    for (size_t i = 0; i < N_SIGNATURES; i++) {
        if (begins_with(part, signatures[i].bytes, signatures[i].length))
            return mtp_fail(error, MTP_ERR_FORMAT, "%s is not a GGUF file: it looks like %s", name,
                            signatures[i].what);
    }
    if (is_web_page(part))
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s is not a GGUF file: it is a web page, saved in place of the model; "
                        "check the download link (and whether it needs a login)", name);
    if (is_safetensors(part))
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s is not a GGUF file: it looks like a safetensors file" CONVERT, name);
    if (is_zeros(part))
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s is not a GGUF file: it begins with zeros, as an unfinished download "
                        "does whose space was reserved beforehand", name);
    size_t n = text_length(part);
    if (n > 0)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s is not a GGUF file: it is text that begins '%.*s'", name, (int)n,
                        (const char *)part->data + first_visible(part));
    return mtp_fail(error, MTP_ERR_FORMAT,
                    "%s is not a GGUF file: its first four bytes are not 'GGUF'", name);
}

enum mtp_status gguf_identify(const struct gguf_part *part, struct mtp_error *error)
{
    size_t magic = part->size < 4 ? part->size : 4;
    if (memcmp(part->data, "GGUF", magic) != 0)
        return fail_foreign(part, error);
    if (part->size < GGUF_HEADER_BYTES)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s is truncated: it has only %zu bytes, not even a header of %d",
                        part->label, part->size, GGUF_HEADER_BYTES);
    uint32_t version = read_u32(part->data + 4);
    if (version != 0 && (version & 0xffff) == 0)
        return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                        "%s is a big-endian GGUF file; only little-endian ones can be read",
                        part->label);
    if (version != 2 && version != 3)
        return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                        "%s has GGUF version %" PRIu32 "; versions 2 and 3 can be read%s",
                        part->label, version,
                        version == 1 ? " (1 was in use for some weeks of 2023)" : "");
    return MTP_OK;
}
