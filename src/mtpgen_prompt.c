#include "mtpgen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One escape at *at, which stands behind the backslash and is moved past it; -1 when it is none. */
static int read_escape(const char **at)
{
    static const char letters[] = "ntr\\'\"";
    static const char values[] = "\n\t\r\\'\"";
    const char *found = **at != '\0' ? strchr(letters, **at) : NULL;
    if (found != NULL) {
        ++*at;
        return values[found - letters];
    }
    if (**at == 'x' && hex_digit((*at)[1]) >= 0 && hex_digit((*at)[2]) >= 0) {
        int value = hex_digit((*at)[1]) * 16 + hex_digit((*at)[2]);
        *at += 3;
        return value;
    }
    return -1;
}

static enum mtp_status add_escaped(struct mtpgen_text *text, const char *prompt,
                                   struct mtp_error *error)
{
    enum mtp_status status = MTP_OK;
    for (const char *at = prompt; *at != '\0' && status == MTP_OK;) {
        char c = *at++;
        int escaped = c == '\\' ? read_escape(&at) : -1;
        if (escaped >= 0)
            c = (char)escaped;
        status = mtpgen_text_add(text, &c, 1, error);
    }
    return status;
}

/* More than any context holds, and less than a mistyped device would give. */
#define LONGEST_TEXT (256u << 20)

static enum mtp_status read_all(struct mtpgen_text *text, int fd, const char *name,
                                struct mtp_error *error)
{
    char buffer[65536];
    for (;;) {
        ssize_t n = read(fd, buffer, sizeof buffer);
        if (n == 0)
            return MTP_OK;
        if (n < 0 && mtpgen_interrupted())
            return mtpgen_fail(error, MTP_ERR_INTERRUPTED, "interrupted while reading %s", name);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mtpgen_fail(error, MTP_ERR_IO, "%s cannot be read: %s", name, strerror(errno));
        if (text->length + (size_t)n > LONGEST_TEXT)
            return mtpgen_fail(error, MTP_ERR_CONTEXT,
                               "%s holds more than 256 MiB of text, which no context does", name);
        enum mtp_status status = mtpgen_text_add(text, buffer, (size_t)n, error);
        if (status != MTP_OK)
            return status;
    }
}

enum mtp_status mtpgen_read_file(struct mtpgen_text *text, const char *path,
                                 struct mtp_error *error)
{
    bool standard_input = strcmp(path, "-") == 0;
    int fd = standard_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return mtpgen_fail(error, MTP_ERR_IO, "%s cannot be opened: %s", path, strerror(errno));
    enum mtp_status status =
        read_all(text, fd, standard_input ? "standard input" : path, error);
    if (!standard_input)
        close(fd);
    /* Editors and echo end a text with a line break that is no part of the prompt. */
    if (status == MTP_OK && text->length > 0 && text->data[text->length - 1] == '\n')
        text->data[--text->length] = '\0';
    return status;
}

enum mtp_status mtpgen_read_prompt(struct mtpgen_text *text, bool *given,
                                   const struct mtpgen_options *options, struct mtp_error *error)
{
    *given = true;
    if (options->prompt != NULL && options->escape)
        return add_escaped(text, options->prompt, error);
    if (options->prompt != NULL)
        return mtpgen_text_add(text, options->prompt, strlen(options->prompt), error);
    if (options->prompt_file != NULL)
        return mtpgen_read_file(text, options->prompt_file, error);
    if (!options->chat && !isatty(STDIN_FILENO))
        return mtpgen_read_file(text, "-", error);
    *given = false;
    return MTP_OK;
}

enum mtp_status mtpgen_read_line(struct mtpgen_text *line, bool *ended, struct mtp_error *error)
{
    line->length = 0;
    *ended = false;
    for (;;) {
        char c;
        ssize_t n = read(STDIN_FILENO, &c, 1); /* bytes beyond the line stay for who reads next */
        if (mtpgen_interrupted())
            return mtpgen_fail(error, MTP_ERR_INTERRUPTED, "interrupted");
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return mtpgen_fail(error, MTP_ERR_IO, "standard input cannot be read: %s",
                               strerror(errno));
        if (n == 0) {
            *ended = line->length == 0;
            return mtpgen_text_add(line, "", 0, error);
        }
        if (c == '\n')
            return mtpgen_text_add(line, "", 0, error);
        enum mtp_status status = mtpgen_text_add(line, &c, 1, error);
        if (status != MTP_OK)
            return status;
    }
}
