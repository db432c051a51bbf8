// Memory of the device and pinned memory: pages of the host, zeros until something is written.
#include "fake.h"
#include <string.h>
#include <sys/mman.h>

#define TOTAL (80ull << 30)

struct block {
    const char *start;
    size_t size;
    enum cudaMemoryType type;
    int device;
};

#define MAX_BLOCKS 65536
static struct block blocks[MAX_BLOCKS];
static int num_blocks = 0;
static size_t used[MAX_DEVICES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// Returns the block that a pointer is in, NULL if there is none; the lock is held.
static struct block *find(const void *pointer) {
    for (int i = num_blocks - 1; i >= 0; i--)
        if ((const char *)pointer >= blocks[i].start && (const char *)pointer < blocks[i].start + blocks[i].size) return &blocks[i];
    return NULL;
}

static bool remember(const void *start, size_t size, enum cudaMemoryType type) {
    pthread_mutex_lock(&lock);
    bool fits = num_blocks < MAX_BLOCKS;
    if (fits) blocks[num_blocks++] = (struct block){start, size, type, current_device()};
    if (fits && type == cudaMemoryTypeDevice) used[current_device()] += size;
    pthread_mutex_unlock(&lock);
    return fits;
}

// Returns the size of what was remembered, 0 if nothing was.
static size_t forget(const void *start) {
    pthread_mutex_lock(&lock);
    struct block *block = find(start);
    size_t size = block ? block->size : 0;
    if (block) {
        if (block->type == cudaMemoryTypeDevice) used[block->device] -= size;
        *block = blocks[--num_blocks];
    }
    pthread_mutex_unlock(&lock);
    return size;
}

static cudaError_t allocate(void **pointer, size_t size, enum cudaMemoryType type) {
    open_context();
    cudaError_t error = unsafe_call();
    if (error) return error;
    if (type == cudaMemoryTypeDevice && used[current_device()] + size > TOTAL) return fail(cudaErrorMemoryAllocation);
    size = (size + 4095) & ~4095ull;
    void *pages = mmap(NULL, size ? size : 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED || !remember(pages, size ? size : 4096, type)) return fail(cudaErrorMemoryAllocation);
    count(type == cudaMemoryTypeDevice ? ALLOCATIONS : HOST_ALLOCATIONS);
    *pointer = pages;
    return cudaSuccess;
}

static cudaError_t release(void *pointer) {
    size_t size = pointer ? forget(pointer) : 0;
    if (size) munmap(pointer, size);
    return cudaSuccess;
}

bool is_pageable(const void *pointer) {
    pthread_mutex_lock(&lock);
    bool known = find(pointer) != NULL;
    pthread_mutex_unlock(&lock);
    return !known;
}

cudaError_t cudaMalloc(void **pointer, size_t size) { return allocate(pointer, size, cudaMemoryTypeDevice); }
cudaError_t cudaMallocHost(void **pointer, size_t size) { return allocate(pointer, size, cudaMemoryTypeHost); }
cudaError_t cudaHostAlloc(void **pointer, size_t size, unsigned flags) { return cudaMallocHost(pointer, size); }
cudaError_t cudaFreeHost(void *pointer) { return release(pointer); }

cudaError_t cudaFree(void *pointer) {
    open_context();
    cudaError_t error = unsafe_call();
    return error ? error : release(pointer);
}

cudaError_t cudaHostRegister(void *pointer, size_t size, unsigned flags) {
    return remember(pointer, size, cudaMemoryTypeHost) ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaHostUnregister(void *pointer) {
    forget(pointer);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    open_context();
    *total = TOTAL;
    *available = TOTAL - used[current_device()];
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *pointer) {
    memset(attributes, 0, sizeof *attributes);
    pthread_mutex_lock(&lock);
    struct block *block = find(pointer);
    attributes->type = block ? block->type : cudaMemoryTypeUnregistered;
    attributes->device = block ? block->device : -1;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

// A blocking copy.
cudaError_t cudaMemcpy(void *target, const void *source, size_t size, enum cudaMemcpyKind kind) {
    cudaError_t error = enqueue(NULL, COPIES);
    if (!error) error = host_waits(NULL);
    if (!error) memcpy(target, source, size);
    return error;
}

cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream) {
    bool pageable = is_pageable(target) || is_pageable(source);
    bool captured = is_capturing(stream);
    if (pageable && captured) return invalidate(stream_of(stream)->capture, cudaErrorStreamCaptureUnsupported);
    cudaError_t error = enqueue(stream, COPIES);
    if (error) return error;
    if (pageable) count(PAGEABLE_COPIES);
    if (!captured) memcpy(target, source, size);
    return cudaSuccess;
}

cudaError_t cudaMemcpyPeerAsync(void *target, int to, const void *source, int from, size_t size, cudaStream_t stream) {
    return cudaMemcpyAsync(target, source, size, cudaMemcpyDeviceToDevice, stream);
}

cudaError_t cudaMemset(void *target, int value, size_t size) { return cudaMemsetAsync(target, value, size, NULL); }

cudaError_t cudaMemsetAsync(void *target, int value, size_t size, cudaStream_t stream) {
    bool captured = is_capturing(stream);
    cudaError_t error = enqueue(stream, MEMSETS);
    if (!error && !captured) memset(target, value, size);
    return error;
}

cudaError_t cudaGetSymbolAddress(void **address, const void *symbol) { return cudaMalloc(address, 4096); }
