/* guarded_backend.c - see guarded_backend.h. */
#define _GNU_SOURCE
#include "guarded_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cpu/backend.h"

enum { ALIGNMENT = 4096 };
#define DEVICE_BYTES ((size_t)8 << 30) /* of addresses: pages are taken as they are written */

/* What the operations of a pass were given, by its key: what a record of them would repeat. */
enum { PASSES = 256 };
struct seen_pass {
    uint64_t key, operands;
};

struct guarded {
    struct backend base;
    struct ops ops;
    struct backend *inner;
    struct guarded_device *device;
    struct seen_pass passes[PASSES];
    uint32_t n_passes;
    bool in_pass;
    struct seen_pass pass; /* the present one */
    uint32_t order;        /* of the last pass since fault() was looked at */
    uint64_t waits;
    bool looked;           /* since the last operation the host has waited, and knows of faults */
    void *own;             /* memory it takes for itself */
    size_t own_bytes;
};

static struct guarded *self(struct backend *backend)
{
    return (struct guarded *)(void *)backend;
}

/* ---- addresses ----------------------------------------------------------------------------- */

static bool is_guarded(const struct guarded_device *device, const void *memory)
{
    uintptr_t at = (uintptr_t)memory, first = (uintptr_t)device->guarded;
    return at >= first && at < first + device->used;
}

static void *usable(const struct guarded_device *device, const void *memory)
{
    if (!is_guarded(device, memory))
        fail_msg("an operation was given an address that is not of the device's memory");
    return device->usable + ((uintptr_t)memory - (uintptr_t)device->guarded);
}

static void note_operand(struct backend *backend, uint64_t operand)
{
    struct seen_pass *pass = &self(backend)->pass;
    pass->operands = (pass->operands ^ operand) * 0x9e3779b97f4a7c15u + 1;
}

/* Changes the pointer that lies at `field`, of whatever type, to one that can be used. */
static void move(struct backend *backend, void *field)
{
    void *memory;
    memcpy(&memory, field, sizeof memory);
    if (memory != NULL)
        memory = usable(self(backend)->device, memory);
    memcpy(field, &memory, sizeof memory);
    note_operand(backend, (uintptr_t)memory);
}

/* packed: room for what w->packed is to be. */
static void move_weight(struct backend *backend, struct weight *w, struct packed_weight *packed)
{
    move(backend, &w->data);
    if (w->packed == NULL)
        return;
    *packed = *w->packed;
    move(backend, &packed->data);
    w->packed = packed;
}

/* ---- operations ---------------------------------------------------------------------------- */

static void enter(struct backend *backend)
{
    self(backend)->looked = false;
    self(backend)->inner->layer = backend->layer;
}

/* Defines g_op: the inner op with its pointers moved; `moves` names them. */
#define DEFINE_OPERATION(op, moves)                                                                \
    static void g_##op(struct backend *b, const struct op##_args *given)                           \
    {                                                                                              \
        struct op##_args a = *given;                                                               \
        enter(b);                                                                                  \
        moves;                                                                                     \
        self(b)->inner->ops->op(self(b)->inner, &a);                                               \
    }
#define M(field) move(b, &a.field)
#define MOVE_CACHE M(cache.k), M(cache.v)
#define MOVE_JOURNAL M(journal.k), M(journal.delta), M(journal.decay)

DEFINE_OPERATION(quantize, (M(x), M(act)))
DEFINE_OPERATION(rms_norm, (M(src), M(dst), M(w)))
DEFINE_OPERATION(add, (M(a), M(b), M(dst)))
DEFINE_OPERATION(rope, (M(x), M(cos_sin), M(rows)))
DEFINE_OPERATION(kv_store, (MOVE_CACHE, M(rows), M(k), M(v)))
DEFINE_OPERATION(attention, (MOVE_CACHE, M(rows), M(q), M(gate), M(out)))
DEFINE_OPERATION(conv, (M(rows), M(x), M(w), M(state), M(out), M(state_from)))
DEFINE_OPERATION(conv_replay, (M(x), M(state_from), M(state), M(more.n_kept)))
DEFINE_OPERATION(delta_net, (M(rows), M(x), M(alpha), M(beta), M(a), M(dt), M(state), M(out),
                             M(state_from), MOVE_JOURNAL))
DEFINE_OPERATION(delta_net_replay, (MOVE_JOURNAL, M(state_from), M(state), M(more.n_kept)))
DEFINE_OPERATION(mul_silu, (M(a), M(b), M(dst)))
DEFINE_OPERATION(route, (M(logits), M(experts), M(weights), M(order), M(start)))
DEFINE_OPERATION(moe_combine, (M(y), M(weights), M(shared), M(shared_gate), M(dst)))
DEFINE_OPERATION(argmax, (M(x), M(dst), M(noise), M(first), note_operand(b, (uint64_t)a.offset)))
DEFINE_OPERATION(digest, (M(x), M(dst)))
DEFINE_OPERATION(gather, (M(src), M(index), M(dst)))
DEFINE_OPERATION(chain_rows, (M(tokens), M(first), M(rows)))
DEFINE_OPERATION(accept, (M(tokens), M(top), M(n_kept), M(seen)))

static void g_embed(struct backend *b, const struct embed_args *given)
{
    struct embed_args a = *given;
    struct packed_weight packed;
    enter(b);
    move_weight(b, &a.table, &packed);
    M(rows), M(dst);
    self(b)->inner->ops->embed(self(b)->inner, &a);
}

static void g_matmul(struct backend *b, const struct matmul_args *given)
{
    struct matmul_args a = *given;
    struct packed_weight packed;
    enter(b);
    move_weight(b, &a.w, &packed);
    M(x), M(act), M(y);
    self(b)->inner->ops->matmul(self(b)->inner, &a);
}

static void g_expert_matmul(struct backend *b, const struct expert_matmul_args *given)
{
    struct expert_matmul_args a = *given;
    struct packed_weight packed;
    enter(b);
    move_weight(b, &a.w, &packed);
    M(x), M(act), M(y), M(order), M(start);
    self(b)->inner->ops->expert_matmul(self(b)->inner, &a);
}

static size_t g_packed_bytes(struct backend *b, const struct weight *w)
{
    return self(b)->inner->ops->packed_bytes(self(b)->inner, w);
}

static void g_pack(struct backend *b, const struct pack_args *given)
{
    struct pack_args a = *given;
    a.w.data = NULL; /* it is said not to be read */
    M(rows), M(dst);
    self(b)->device->packs++;
    self(b)->inner->ops->pack(self(b)->inner, &a);
}

/* ---- memory and the rest -------------------------------------------------------------------- */

static bool g_pass_begin(struct backend *b, uint64_t key, uint32_t order)
{
    struct guarded *t = self(b);
    assert_false(t->in_pass);
    assert_true(order < PASS_ORDERS && order >= t->order);
    t->order = order;
    t->in_pass = true;
    t->pass = (struct seen_pass){key, 0};
    if (++t->device->passes == t->device->fail_pass)
        t->device->failed = "the device has left in a pass";
    return false;
}

/* A pass of a key seen before was given the same as then. */
static bool g_pass_end(struct backend *b)
{
    struct guarded *t = self(b);
    bool was_in_pass = t->in_pass;
    t->in_pass = false;
    for (uint32_t i = 0; was_in_pass && i < t->n_passes; i++)
        if (t->passes[i].key == t->pass.key) {
            assert_true(t->passes[i].operands == t->pass.operands);
            t->device->repeatable++;
            return true;
        }
    if (was_in_pass && t->n_passes < PASSES)
        t->passes[t->n_passes++] = t->pass;
    return true;
}

/* The host waits, and is told of faults on that occasion. */
static void wait_for_device(struct backend *b)
{
    self(b)->waits++;
    self(b)->looked = true;
}

/* The host's side of these is touched at the address given: if it is the device's, the program ends. */
static void g_upload(struct backend *b, void *dst, const void *src, size_t bytes)
{
    if (++self(b)->device->uploads == self(b)->device->fail_upload)
        self(b)->device->failed = "the device has left in an upload";
    assert_false(self(b)->in_pass);
    if (bytes > 0)
        memcpy(usable(self(b)->device, dst), src, bytes);
}

static void g_download(struct backend *b, void *dst, const void *src, size_t bytes)
{
    self(b)->device->downloads++;
    assert_false(self(b)->in_pass);
    wait_for_device(b);
    if (bytes > 0)
        memcpy(dst, usable(self(b)->device, src), bytes);
}

static void g_copy(struct backend *b, void *dst, const void *src, size_t bytes)
{
    const uint8_t *to = dst, *from = src;
    if (bytes == 0)
        return;
    assert_true(to + bytes <= from || from + bytes <= to);
    note_operand(b, (uintptr_t)dst);
    note_operand(b, (uintptr_t)src);
    note_operand(b, bytes);
    memcpy(usable(self(b)->device, dst), usable(self(b)->device, src), bytes);
}

static void g_fill(struct backend *b, void *dst, int byte, size_t bytes)
{
    if (bytes > 0)
        memset(usable(self(b)->device, dst), byte, bytes);
}

static void g_synchronize(struct backend *b)
{
    wait_for_device(b);
}

static const char *g_error(struct backend *b)
{
    return self(b)->device->failed;
}

static size_t whole_pages(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void *g_alloc(struct backend *b, size_t bytes, enum memory_use use)
{
    (void)use;
    struct guarded_device *device = self(b)->device;
    size_t limit = device->limit > 0 ? device->limit : DEVICE_BYTES;
    if (++device->allocs == device->fail_alloc || device->failed != NULL)
        return NULL;
    if (whole_pages(bytes) > DEVICE_BYTES - device->used || device->in_use + bytes > limit)
        return NULL;
    void *memory = device->guarded + device->used;
    device->used += whole_pages(bytes);
    device->in_use += bytes;
    if (device->most < device->in_use)
        device->most = device->in_use;
    return memory;
}

static void g_free(struct backend *b, void *memory, size_t bytes)
{
    struct guarded_device *device = self(b)->device;
    if (memory == NULL)
        return;
    assert_true(device->in_use >= bytes);
    device->in_use -= bytes;
    madvise(usable(device, memory), whole_pages(bytes), MADV_REMOVE);
}

static size_t own_bytes(uint32_t n_ctx)
{
    return GUARDED_OWN + (size_t)n_ctx * GUARDED_OWN_POSITION;
}

static bool take_own(struct guarded *g, uint32_t n_ctx)
{
    if (own_bytes(n_ctx) <= g->own_bytes)
        return true;
    g_free(&g->base, g->own, g->own_bytes);
    g->own_bytes = own_bytes(n_ctx);
    g->own = g_alloc(&g->base, g->own_bytes, MEMORY_PARTS);
    if (g->own == NULL)
        g->own_bytes = 0;
    return g->own != NULL;
}

static bool g_reserve(struct backend *b, uint32_t n_ctx)
{
    return take_own(self(b), n_ctx) && self(b)->inner->ops->reserve(self(b)->inner, n_ctx);
}

static void g_memory(struct backend *b, uint32_t n_ctx, struct backend_memory *memory)
{
    const struct guarded_device *device = self(b)->device;
    size_t limit = device->limit > 0 ? device->limit : DEVICE_BYTES;
    size_t left = limit > device->in_use ? limit - device->in_use : 0;
    *memory = (struct backend_memory){left, own_bytes(n_ctx), GUARDED_ALLOWANCE};
}

static struct numeric_fault g_fault(struct backend *b)
{
    if (!self(b)->looked)
        wait_for_device(b);
    self(b)->order = 0;
    return self(b)->inner->ops->fault(self(b)->inner);
}

static void g_clear_fault(struct backend *b)
{
    self(b)->inner->ops->clear_fault(self(b)->inner);
}

static void g_counters(struct backend *b, struct backend_counters *counters)
{
    self(b)->inner->ops->counters(self(b)->inner, counters);
    counters->waits += self(b)->waits;
}

static void g_close(struct backend *b)
{
    g_free(b, self(b)->own, self(b)->own_bytes);
    self(b)->inner->ops->close(self(b)->inner);
    free(self(b));
}

#define OPERATION(op) .op = g_##op
static const struct ops guarded_ops = {
    .name = "guarded",
    .host_memory = false,
    OPERATION(embed), OPERATION(quantize), OPERATION(matmul), OPERATION(expert_matmul),
    .products = products_one_by_one,
    .fused = fused_one_by_one,
    .place_heads = place_heads_one_by_one,
    OPERATION(rms_norm), OPERATION(add), OPERATION(rope), OPERATION(kv_store), OPERATION(attention),
    OPERATION(conv), OPERATION(delta_net), OPERATION(conv_replay), OPERATION(delta_net_replay),
    OPERATION(mul_silu), OPERATION(route), OPERATION(moe_combine), OPERATION(argmax),
    OPERATION(digest), OPERATION(gather), OPERATION(chain_rows), OPERATION(accept),
    OPERATION(packed_bytes), OPERATION(pack), OPERATION(reserve), OPERATION(memory),
    OPERATION(pass_begin), OPERATION(pass_end),
    OPERATION(upload), OPERATION(download), OPERATION(copy), OPERATION(fill), OPERATION(synchronize),
    OPERATION(error), OPERATION(alloc), OPERATION(free), OPERATION(fault), OPERATION(clear_fault),
    OPERATION(counters), OPERATION(close),
};

static enum mtp_status open_backend(void *user, const struct mtp_session_options *options,
                                    struct backend **out, struct mtp_error *error)
{
    struct guarded *g = calloc(1, sizeof *g);
    assert_non_null(g);
    g->device = user;
    g->ops = guarded_ops;
    g->base.ops = &g->ops;
    /* One arrangement of weights a device: an instruction set is not to be chosen. */
    g->inner = cpu_backend_open(cpu_kernels_best(), options->n_threads);
    assert_non_null(g->inner);
    *out = NULL;
    if (!take_own(g, 0)) {
        g_close(&g->base);
        return mtp_fail(error, MTP_ERR_MEMORY, "no memory for a guarded backend");
    }
    *out = &g->base;
    return MTP_OK;
}

void guarded_open(struct guarded_device *device)
{
    *device = (struct guarded_device){.source = {"guarded", open_backend, device}};
    int file = memfd_create("guarded", 0);
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, (off_t)DEVICE_BYTES), 0);
    device->guarded = mmap(NULL, DEVICE_BYTES, PROT_NONE, MAP_SHARED | MAP_NORESERVE, file, 0);
    device->usable = mmap(NULL, DEVICE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    assert_true(device->guarded != MAP_FAILED && device->usable != MAP_FAILED);
    close(file);
}

void guarded_close(struct guarded_device *device)
{
    munmap(device->guarded, DEVICE_BYTES);
    munmap(device->usable, DEVICE_BYTES);
}
