// A CUDA runtime and driver without a GPU: device memory is memory of the host, kernels do nothing, every call is counted.
// This header is what its files share.
#pragma once
#define _GNU_SOURCE
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdbool.h>

#define MAX_DEVICES 16

// What is counted, per device. The names are in counters.c, in this order.
enum kind {
    LAUNCHES,          // kernels, and graphs, that were started; not what a graph is made of
    LIBRARY_CALLS,     // calls that cuDNN or cuBLAS would answer; see libraries.py
    MEMSETS,
    COPIES,            // of memory, asynchronous or not
    PAGEABLE_COPIES,   // those of them that have host memory which is not pinned: the host waits for these
    SYNCS,             // times that the host waited for a stream, an event, the device, or a blocking copy
    GRAPH_NODES,       // kernels, library calls, copies and memsets that were captured into a graph
    GRAPH_LAUNCHES,
    ALLOCATIONS,       // of device memory from the driver
    HOST_ALLOCATIONS,  // of pinned memory from the driver
    CONTEXTS,          // 1 once any thread of this process has used the device
    NUM_KINDS
};

// counters.c
void count(enum kind kind);  // on the current device

// devices.c
int num_devices(void);
int current_device(void);
void open_context(void);  // on the current device; what a real runtime does at the first call that needs one
bool has_context(int device);
cudaError_t fail(cudaError_t error);  // makes `error` the last one of this thread, and returns it

// memory.c
bool is_pageable(const void *pointer);  // neither device memory nor pinned

// streams.c
struct capture;
struct stream {
    int device;
    struct capture *capture;  // that this stream records into; NULL if it does not
    bool is_forked;           // it joined the capture of another stream, and that has not waited for its end yet
};
struct stream *stream_of(cudaStream_t handle);
bool is_legacy(cudaStream_t handle);
void for_each_stream(void (*visit)(struct stream *stream, void *data), void *data);

// capture.c
extern pthread_mutex_t capture_lock;                           // guards captures, and which stream and event belongs to one
cudaError_t enqueue(cudaStream_t handle, enum kind kind);      // a kernel, a copy, a memset: counts it, or captures it
bool is_capturing(cudaStream_t handle);
cudaError_t host_waits(const struct capture *of);              // counts it; an error while anything is captured
cudaError_t unsafe_call(void);                                 // an error while a capture forbids calls like cudaMalloc
cudaError_t invalidate(struct capture *capture, cudaError_t error);  // makes the capture useless, as its end will say
