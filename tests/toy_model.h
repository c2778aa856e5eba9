/* toy_model.h - a complete qwen35 or qwen35moe file of a few kilobytes, whole or with one thing wrong.
 *
 * Two blocks: a gated DeltaNet and a full attention, F32 weights, 256 byte tokens; optionally an MTP
 * block. Weights are small and pseudo-random.
 */
#ifndef TESTS_TOY_MODEL_H
#define TESTS_TOY_MODEL_H

#include <stdbool.h>
#include <stdint.h>

struct toy {
    bool moe, mtp;
    bool synthetic;               /* marked as mtpsynth marks its files */
    const char *without_key;      /* leave this key out (full name) */
    const char *change_key;       /* write this u32 key with `value` instead */
    uint32_t value;
    const char *change_f32;       /* write this f32 key with `f32` instead */
    float f32;
    const char *without_tensor;   /* leave this tensor out */
    const char *reshape_tensor;   /* give this tensor one row more */
    const char *retype_tensor;    /* store this tensor as I32 */
    const char *poison_tensor;    /* its first value is NaN */
    const char *f16_vectors;      /* any text: 1-D tensors are stored as F16 */
};

enum { TOY_EMBD = 32, TOY_VOCAB = 256, TOY_CTX = 64 };

/* Writes the file; ends the test when it cannot. */
void toy_save(const struct toy *toy, const char *path);

#endif
