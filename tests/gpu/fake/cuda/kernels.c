// Kernels, which do nothing.
#include "fake.h"
#include <string.h>

cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) {
    return enqueue(stream, LAUNCHES);
}

// What nvcc makes of <<<>>> since CUDA 13.
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, const void **arguments, size_t shared, cudaStream_t stream) {
    return enqueue(stream, LAUNCHES);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel, void **arguments) {
    return enqueue(config->stream, LAUNCHES);
}

// What libraries.py answers instead of cuDNN and cuBLAS.
int fake_library_call(void *stream) { return enqueue((cudaStream_t)stream, LIBRARY_CALLS); }

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
    if (!is_capturing(stream)) function(data);
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *kernel) {
    memset(attributes, 0, sizeof *attributes);
    attributes->maxThreadsPerBlock = 1024;
    attributes->numRegs = 32;
    attributes->ptxVersion = attributes->binaryVersion = 90;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value) { return cudaSuccess; }

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *number, const void *kernel, int block, size_t shared) {
    *number = 2;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *number, const void *kernel, int block, size_t shared,
                                                                   unsigned flags) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(number, kernel, block, shared);
}
