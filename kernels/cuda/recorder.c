/* recorder.c - see recorder.h. */
#include "kernels/cuda/recorder.h"

struct recorded_pass *recorder_find(struct recorder *recorder, uint64_t key)
{
    for (int i = 0; i < RECORDER_PASSES; i++) {
        struct recorded_pass *pass = &recorder->passes[i];
        if (pass->seen && pass->key == key)
            return pass;
        if (!pass->seen) {
            pass->key = key;
            return pass;
        }
    }
    return NULL;
}

cudaError_t recorder_begin(struct recorder *recorder, struct recorded_pass *pass, cudaStream_t stream)
{
    /* Other threads may use the device for sessions of their own meanwhile. */
    cudaError_t status = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    recorder->off = status != cudaSuccess;
    recorder->recording = status == cudaSuccess ? pass : NULL;
    return status;
}

cudaError_t recorder_end(struct recorder *recorder, cudaStream_t stream)
{
    struct recorded_pass *pass = recorder->recording;
    cudaGraph_t graph = NULL;
    recorder->recording = NULL;
    cudaError_t status = cudaStreamEndCapture(stream, &graph);
    if (status == cudaSuccess)
        status = cudaGraphInstantiate(&pass->graph, graph, 0);
    if (graph != NULL)
        cudaGraphDestroy(graph);
    if (status != cudaSuccess) {
        pass->graph = NULL;
        recorder->off = true;
        (void)cudaGetLastError();
    }
    return status;
}

void recorder_close(struct recorder *recorder)
{
    for (int i = 0; i < RECORDER_PASSES; i++)
        if (recorder->passes[i].graph != NULL)
            cudaGraphExecDestroy(recorder->passes[i].graph);
}
