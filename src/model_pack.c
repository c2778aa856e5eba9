/* model_pack.c - weights in the arrangement a backend reads fastest, in place of the file's pages. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory_available.h"
#include "model.h"

enum { ALIGNMENT = 64 };

bool model_add_slot(mtp_model *model, struct weight *weight)
{
    if (type_info(weight->type)->weight_class == WEIGHT_FLOAT)
        return true;
    struct pack_slot *slot = calloc(1, sizeof *slot);
    if (slot == NULL)
        return false;
    weight->packed = &slot->packed;
    *slot = (struct pack_slot){.weight = *weight, .wanted = true, .next = model->slots};
    model->slots = slot;
    return true;
}

void model_drop_slot(mtp_model *model, struct weight *weight)
{
    for (struct pack_slot *slot = model->slots; slot != NULL; slot = slot->next)
        if (&slot->packed == weight->packed)
            slot->wanted = false;
    weight->packed = NULL;
}

static size_t slot_bytes(struct backend *backend, const struct pack_slot *slot)
{
    size_t bytes = slot->wanted ? backend->ops->packed_bytes(backend, &slot->weight) : 0;
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Those that lie whole in the matrix: they would count as the process's memory beside the packed ones. */
void model_release_pages(const struct weight *w)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)w->data, end = begin + w->n_experts * w->expert_bytes;
    begin = (begin + page - 1) / page * page;
    end = end / page * page;
    if (begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

bool model_pack_fits(uint64_t bytes, uint64_t available)
{
    return bytes <= available - available / 8;
}

static void pack_all(mtp_model *model, struct backend *backend)
{
    size_t total = 0;
    for (struct pack_slot *slot = model->slots; slot != NULL; slot = slot->next)
        total += slot_bytes(backend, slot);
    if (total == 0)
        return;
    /* Not tried again if memory is short: sessions that run by then read packed.data without the lock. */
    model->packed = true;
    /* A model that does not fit runs from the file's pages, which the kernel can drop and read again. */
    if (!model_pack_fits(total, memory_available()))
        return;
    uint8_t *memory = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return;
#ifdef MADV_HUGEPAGE
    madvise(memory, total, MADV_HUGEPAGE);
#endif
    model->packed_memory = memory;
    model->packed_size = total;
    for (struct pack_slot *slot = model->slots; slot != NULL; slot = slot->next) {
        size_t bytes = slot_bytes(backend, slot);
        if (bytes == 0)
            continue;
        pack_whole(backend, &slot->weight, memory);
        slot->packed.data = memory;
        memory += bytes;
        model_release_pages(&slot->weight);
    }
}

void model_pack(mtp_model *model, struct backend *backend)
{
    pthread_mutex_lock(&model->pack_lock);
    if (!model->packed)
        pack_all(model, backend);
    pthread_mutex_unlock(&model->pack_lock);
}

void model_free_packed(mtp_model *model)
{
    if (model->packed_memory != NULL)
        munmap(model->packed_memory, model->packed_size);
    while (model->slots != NULL) {
        struct pack_slot *next = model->slots->next;
        free(model->slots);
        model->slots = next;
    }
}
