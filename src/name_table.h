/* name_table.h - finds items by name in constant time, whatever an attacker calls them.
 *
 * The items stay where they are: the table holds indices into an array whose elements begin with a
 * struct gguf_string. The hash is keyed with random bits, so that a file cannot be made whose names
 * all collide; no result depends on those bits.
 */
#ifndef MTP_SRC_NAME_TABLE_H
#define MTP_SRC_NAME_TABLE_H

#include "gguf.h"

#define NAME_TABLE_NONE SIZE_MAX

struct name_table {
    const unsigned char *items;
    size_t stride;
    size_t n_slots; /* a power of two, or 0 for an empty table */
    size_t *slots;  /* index + 1; 0 is free */
    uint64_t key[2];
};

/* Indexes n items of stride bytes. *duplicate becomes the index of the first item whose name an
 * earlier item has, or NAME_TABLE_NONE. */
enum mtp_status name_table_build(struct name_table *table, const void *items, size_t stride,
                                 size_t n, size_t *duplicate, struct mtp_error *error);
void name_table_free(struct name_table *table);

/* Index of the item with this name, or NAME_TABLE_NONE. A zeroed table finds nothing. */
size_t name_table_find(const struct name_table *table, const char *name, size_t length);

#endif
