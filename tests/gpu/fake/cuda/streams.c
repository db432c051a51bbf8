// Streams and events. Nothing runs, so everything is done as soon as it is enqueued; what they follow is captures.
#include "fake.h"
#include <stdint.h>
#include <stdlib.h>

struct event {
    struct capture *capture;  // that it was recorded in; NULL if it was not
    struct stream *stream;    // that it was recorded on; NULL before that
};

#define MAX_STREAMS 4096
static struct stream streams[MAX_STREAMS];
static int num_streams = MAX_DEVICES;  // the first ones are the legacy streams

bool is_legacy(cudaStream_t handle) { return (uintptr_t)handle <= 2; }  // 0, cudaStreamLegacy, cudaStreamPerThread

struct stream *stream_of(cudaStream_t handle) {
    return is_legacy(handle) ? &streams[current_device()] : (struct stream *)handle;
}

void for_each_stream(void (*visit)(struct stream *stream, void *data), void *data) {
    for (int i = 0; i < num_streams; i++) visit(&streams[i], data);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *handle, unsigned flags, int priority) {
    open_context();
    pthread_mutex_lock(&capture_lock);
    struct stream *stream = num_streams < MAX_STREAMS ? &streams[num_streams++] : NULL;
    pthread_mutex_unlock(&capture_lock);
    if (!stream) return fail(cudaErrorMemoryAllocation);
    *stream = (struct stream){.device = current_device()};
    *handle = (cudaStream_t)stream;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *handle, unsigned flags) { return cudaStreamCreateWithPriority(handle, flags, 0); }
cudaError_t cudaStreamCreate(cudaStream_t *handle) { return cudaStreamCreateWithPriority(handle, 0, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t handle) { return cudaSuccess; }

cudaError_t cudaStreamGetPriority(cudaStream_t handle, int *priority) {
    *priority = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
    open_context();
    return host_waits(stream_of(handle)->capture);
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
    open_context();
    struct capture *capture = stream_of(handle)->capture;
    return capture ? invalidate(capture, cudaErrorStreamCaptureUnsupported) : unsafe_call();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *handle, unsigned flags) {
    open_context();
    *handle = (cudaEvent_t)calloc(1, sizeof(struct event));
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *handle) { return cudaEventCreateWithFlags(handle, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
    free(handle);
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t handle, cudaStream_t stream, unsigned flags) {
    open_context();
    pthread_mutex_lock(&capture_lock);
    *(struct event *)handle = (struct event){stream_of(stream)->capture, stream_of(stream)};
    pthread_mutex_unlock(&capture_lock);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream) { return cudaEventRecordWithFlags(handle, stream, 0); }

// A captured event joins the waiting stream to its capture; a capture cannot wait for what happened outside of it.
static cudaError_t join(struct stream *stream, struct event *event) {
    if (event->capture && !stream->capture) {
        stream->capture = event->capture;
        stream->is_forked = true;
    }
    if (stream->capture && event->stream && event->capture != stream->capture) return cudaErrorStreamCaptureIsolation;
    if (event->capture && event->stream != stream) event->stream->is_forked = false;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags) {
    open_context();
    pthread_mutex_lock(&capture_lock);
    cudaError_t error = join(stream_of(handle), (struct event *)event);
    pthread_mutex_unlock(&capture_lock);
    return error ? invalidate(stream_of(handle)->capture, error) : cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
    struct event *event = (struct event *)handle;
    return event->capture ? invalidate(event->capture, cudaErrorCapturedEvent) : unsafe_call();
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
    struct event *event = (struct event *)handle;
    return event->capture ? invalidate(event->capture, cudaErrorCapturedEvent) : host_waits(NULL);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
    *milliseconds = 1;
    return cudaSuccess;
}
