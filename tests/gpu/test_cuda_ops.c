/* test_cuda_ops.c - every operation of the CUDA backend but the products equals the CPU's bit for bit:
 * the shapes of two models and odd ones, 1 to 512 rows, three seeds, faults.
 *     test_cuda_ops [--quick] [OPERATION]
 * --quick takes the odd shapes alone. Status 77 where there is no device. */
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/backend.h"
#include "tests/gpu/cuda_ops.h"

static const struct model_sizes models[] = {
    {"odd", false, 257, 3, 1, 36, 20, 1, 3, 12, 3, 77, 13, 3, 1001},
    {"small", false, 320, 4, 2, 64, 64, 2, 4, 32, 4, 544, 70, 8, 5000},
    {"wide heads", false, 33, 2, 2, 300, 128, 2, 2, 200, 10, 31, 1024, 10, 64},
    {"real heads", false, 640, 6, 1, 256, 64, 2, 6, 128, 4, 1040, 256, 8, 3000},
    {"27B", true, 5120, 24, 4, 256, 64, 16, 48, 128, 4, 17408, 0, 0, 248320},
    {"35B-A3B", true, 2048, 16, 2, 256, 64, 16, 32, 128, 4, 512, 256, 8, 248320},
};
static const int32_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
                                     17, 64, 200, 512};
enum { N_MODELS = sizeof models / sizeof *models, N_SEEDS = 3 };
enum { N_ROW_COUNTS = sizeof row_counts / sizeof *row_counts };

static const struct operation {
    const char *name;
    operation_cases *cases;
    void (*once)(struct two_backends *t);
} operations[] = {
    {"memory", NULL, memory_cases},
    {"embed", embed_cases, NULL},
    {"quantize", quantize_cases, NULL},
    {"rms_norm", rms_norm_cases, NULL},
    {"add", add_cases, NULL},
    {"rope", rope_cases, NULL},
    {"kv_store", kv_store_cases, NULL},
    {"attention", attention_cases, attention_contexts},
    {"conv", conv_cases, NULL}, /* and conv_replay */
    {"delta_net", delta_net_cases, NULL}, /* and delta_net_replay */
    {"mul_silu", mul_silu_cases, NULL},
    {"route", route_cases, NULL},
    {"moe_combine", moe_combine_cases, NULL},
    {"argmax", argmax_cases, NULL},
    {"digest", digest_cases, NULL},
    {"gather", gather_cases, NULL},
    {"chain_rows", NULL, chain_rows_cases},
    {"accept", NULL, accept_cases},
    {"replay", replay_cases, NULL},
    {"rope_by_position", rope_by_position_cases, NULL},
    {"fused", fused_cases, fused_widths},
    {"router", NULL, router_sizes},
    {"place_heads", place_heads_cases, place_heads_faults},
    {"fused faults", NULL, fused_faults},
    {"faults", NULL, fault_cases},
    {"errors", NULL, error_cases},
};
enum { N_OPERATIONS = sizeof operations / sizeof *operations };

/* More of one operation say nothing new, and bringing each over takes its time. */
enum { ENOUGH_MISMATCHES = 100 };

/* Every seed of small shapes; of large ones a seed each in turn, all three for a few rows. */
static bool wanted(const struct model_sizes *m, int count, uint64_t seed)
{
    int32_t n = row_counts[count];
    if (!m->large)
        return n <= 17 || seed == (uint64_t)(count % N_SEEDS + 1);
    return n == 1 || n == 5 || seed == (uint64_t)(count % N_SEEDS + 1);
}

static void run(struct two_backends *t, const struct operation *operation, bool quick)
{
    t->operation = operation->name;
    if (operation->once != NULL)
        operation->once(t);
    for (int i = 0; operation->cases != NULL && i < N_MODELS; i++)
        for (int count = 0; count < N_ROW_COUNTS; count++)
            for (uint64_t seed = 1; seed <= N_SEEDS; seed++)
                if (t->mismatches < ENOUGH_MISMATCHES && wanted(&models[i], count, seed) &&
                    !(quick && (models[i].large || row_counts[count] > 17)))
                    operation->cases(t, &models[i], row_counts[count], seed);
}

int main(int argc, char **argv)
{
    bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    const char *only = argc > 1 + quick ? argv[1 + quick] : NULL;
    struct cuda_message why;
    bool there;
    if (cuda_device_count(&there, &why) == 0) {
        printf("%s\n", why.text);
        return 77;
    }
    static struct two_backends t;
    uint64_t comparisons = 0, mismatches = 0;
    if (!two_backends_open(&t, LONG_CONTEXT))
        return 1;
    for (int i = 0; i < N_OPERATIONS; i++)
        if (only == NULL || strcmp(only, operations[i].name) == 0) {
            run(&t, &operations[i], quick);
            report(&t, &comparisons, &mismatches);
        }
    two_backends_close(&t);
    printf("ops: %llu comparisons, %llu mismatches\n", (unsigned long long)comparisons,
           (unsigned long long)mismatches);
    return mismatches > 0 || comparisons == 0;
}
