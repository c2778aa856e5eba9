/* error.h - how a failure travels: a status as the return value, one sentence in an mtp_error. */
#ifndef MTP_SRC_ERROR_H
#define MTP_SRC_ERROR_H

#include "mtp.h"

/* Fills *error (which may be NULL) and returns status, so that callers write
 * `return mtp_fail(error, MTP_ERR_IO, "%s: ...", path);`. Control characters and malformed UTF-8 in
 * the formatted sentence are escaped as \xNN: names come from hostile files. */
enum mtp_status mtp_fail(struct mtp_error *error, enum mtp_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* mtp_fail(MTP_ERR_MEMORY) with what was wanted and how many bytes. */
enum mtp_status mtp_fail_memory(struct mtp_error *error, const char *what, uint64_t bytes);

#endif
