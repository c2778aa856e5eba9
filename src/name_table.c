#include "name_table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

struct sip_state {
    uint64_t v[4];
};

static uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static void sip_round(struct sip_state *s)
{
    s->v[0] += s->v[1];
    s->v[2] += s->v[3];
    s->v[1] = rotate_left(s->v[1], 13) ^ s->v[0];
    s->v[3] = rotate_left(s->v[3], 16) ^ s->v[2];
    s->v[0] = rotate_left(s->v[0], 32);
    s->v[2] += s->v[1];
    s->v[0] += s->v[3];
    s->v[1] = rotate_left(s->v[1], 17) ^ s->v[2];
    s->v[3] = rotate_left(s->v[3], 21) ^ s->v[0];
    s->v[2] = rotate_left(s->v[2], 32);
}

/* SipHash-1-3 (Aumasson and Bernstein): one round a word, three at the end. */
static uint64_t sip_hash(const uint64_t key[2], const char *data, size_t length)
{
    struct sip_state s = {{key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                           key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u}};
    size_t whole = length / 8;
    for (size_t i = 0; i < whole; i++) {
        uint64_t word;
        memcpy(&word, data + 8 * i, 8);
        s.v[3] ^= word;
        sip_round(&s);
        s.v[0] ^= word;
    }
    uint64_t last = (uint64_t)(length & 0xff) << 56;
    for (size_t i = 8 * whole; i < length; i++)
        last |= (uint64_t)(unsigned char)data[i] << (8 * (i % 8));
    s.v[3] ^= last;
    sip_round(&s);
    s.v[0] ^= last;
    s.v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(&s);
    return s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3];
}

static void choose_key(uint64_t key[2], const void *somewhere)
{
    if (getrandom(key, 2 * sizeof key[0], GRND_NONBLOCK) == (ssize_t)(2 * sizeof key[0]))
        return;
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    key[0] = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)now.tv_sec;
    key[1] = (uint64_t)(uintptr_t)somewhere * 0xbf58476d1ce4e5b9u;
}

static const struct gguf_string *name_of(const struct name_table *table, size_t index)
{
    return (const struct gguf_string *)(const void *)(table->items + index * table->stride);
}

/* The slot that holds this name, or the free slot where it belongs. */
static size_t *slot_for(const struct name_table *table, const char *name, size_t length)
{
    size_t mask = table->n_slots - 1;
    size_t at = (size_t)sip_hash(table->key, name, length) & mask;
    while (table->slots[at] != 0) {
        const struct gguf_string *other = name_of(table, table->slots[at] - 1);
        if (other->length == length && memcmp(other->data, name, length) == 0)
            break;
        at = (at + 1) & mask;
    }
    return &table->slots[at];
}

enum mtp_status name_table_build(struct name_table *table, const void *items, size_t stride,
                                 size_t n, size_t *duplicate, struct mtp_error *error)
{
    *table = (struct name_table){.items = items, .stride = stride};
    *duplicate = NAME_TABLE_NONE;
    if (n == 0)
        return MTP_OK;
    if (n > SIZE_MAX / 8 / sizeof *table->slots)
        return mtp_fail_memory(error, "a table of names", n);
    size_t n_slots = 8;
    while (n_slots < 2 * n)
        n_slots *= 2;
    table->slots = calloc(n_slots, sizeof *table->slots);
    if (table->slots == NULL)
        return mtp_fail_memory(error, "a table of names", n_slots * sizeof *table->slots);
    table->n_slots = n_slots;
    choose_key(table->key, table->slots);
    for (size_t i = 0; i < n; i++) {
        const struct gguf_string *name = name_of(table, i);
        size_t *slot = slot_for(table, name->data, name->length);
        if (*slot == 0) {
            *slot = i + 1;
        } else if (*duplicate == NAME_TABLE_NONE) {
            *duplicate = i;
        }
    }
    return MTP_OK;
}

void name_table_free(struct name_table *table)
{
    free(table->slots);
    *table = (struct name_table){0};
}

size_t name_table_find(const struct name_table *table, const char *name, size_t length)
{
    if (table->n_slots == 0)
        return NAME_TABLE_NONE;
    size_t slot = *slot_for(table, name, length);
    return slot == 0 ? NAME_TABLE_NONE : slot - 1;
}
