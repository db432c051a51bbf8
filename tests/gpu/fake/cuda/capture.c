// Stream capture and graphs. A captured call becomes a node of the graph and does nothing else; what a real device refuses
// while it captures is refused here, and makes the capture invalid. Stricter than a real device in one point: the thread that
// captures cannot use the legacy stream, which a real device allows beside a non-blocking stream, outside of the graph.
#include "fake.h"
#include <stdlib.h>

struct capture {
    struct stream *origin;
    enum cudaStreamCaptureMode mode;
    pthread_t thread;
    cudaError_t error;  // why it is invalid
    size_t num_nodes;
    struct capture *next;  // of those that are going on
};

struct graph {  // of both kinds: what capture yields, and what can be launched
    size_t num_nodes;
};

pthread_mutex_t capture_lock = PTHREAD_MUTEX_INITIALIZER;
static struct capture *ongoing = NULL;
static __thread enum cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

cudaError_t invalidate(struct capture *capture, cudaError_t error) {
    if (capture && !capture->error) capture->error = error;
    return fail(error);
}

bool is_capturing(cudaStream_t handle) { return stream_of(handle)->capture != NULL; }

static struct capture *of_this_thread(void) {
    for (struct capture *each = ongoing; each; each = each->next)
        if (pthread_equal(each->thread, pthread_self())) return each;
    return NULL;
}

// Returns the capture that forbids this thread calls like cudaMalloc; see cudaThreadExchangeStreamCaptureMode.
static struct capture *forbidding(void) {
    for (struct capture *each = ongoing; each; each = each->next) {
        bool own = pthread_equal(each->thread, pthread_self());
        if (thread_mode == cudaStreamCaptureModeRelaxed) continue;
        if (own && each->mode != cudaStreamCaptureModeRelaxed) return each;
        if (!own && each->mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal) return each;
    }
    return NULL;
}

cudaError_t unsafe_call(void) {
    pthread_mutex_lock(&capture_lock);
    struct capture *capture = forbidding();
    pthread_mutex_unlock(&capture_lock);
    return capture ? invalidate(capture, cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t host_waits(const struct capture *of) {
    if (of) return invalidate((struct capture *)of, cudaErrorStreamCaptureUnsupported);
    cudaError_t error = unsafe_call();
    if (!error) count(SYNCS);
    return error;
}

static cudaError_t capture_node(struct capture *capture) {
    if (capture->error) return fail(cudaErrorStreamCaptureInvalidated);
    capture->num_nodes++;
    count(GRAPH_NODES);
    return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t handle, enum kind kind) {
    open_context();
    pthread_mutex_lock(&capture_lock);
    struct stream *stream = stream_of(handle);
    struct capture *own = of_this_thread();
    cudaError_t error = cudaSuccess;
    if (stream->capture)
        error = capture_node(stream->capture);
    else if (own && is_legacy(handle))
        error = invalidate(own, cudaErrorStreamCaptureImplicit);
    else
        count(kind);
    pthread_mutex_unlock(&capture_lock);
    return error;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
    enum cudaStreamCaptureMode before = thread_mode;
    thread_mode = *mode;
    *mode = before;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, enum cudaStreamCaptureMode mode) {
    struct stream *stream = stream_of(handle);
    if (is_legacy(handle)) return fail(cudaErrorStreamCaptureUnsupported);
    if (stream->capture) return fail(cudaErrorIllegalState);
    struct capture *capture = calloc(1, sizeof *capture);
    pthread_mutex_lock(&capture_lock);
    *capture = (struct capture){.origin = stream, .mode = mode, .thread = pthread_self(), .next = ongoing};
    ongoing = stream->capture = capture;
    pthread_mutex_unlock(&capture_lock);
    return cudaSuccess;
}

// Takes a stream out of a capture that ends; it is an error if the origin has not waited for it.
static void leave(struct stream *stream, void *data) {
    struct capture *capture = data;
    if (stream->capture != capture) return;
    if (stream->is_forked && !capture->error) capture->error = cudaErrorStreamCaptureUnjoined;
    stream->capture = NULL;
    stream->is_forked = false;
}

static void remove_from_ongoing(struct capture *capture) {
    struct capture **place = &ongoing;
    while (*place != capture) place = &(*place)->next;
    *place = capture->next;
}

// The capture itself is never freed: events that were recorded in it still point to it.
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *graph) {
    struct capture *capture = stream_of(handle)->capture;
    *graph = NULL;
    if (!capture) return fail(cudaErrorIllegalState);
    if (capture->origin != stream_of(handle)) return fail(cudaErrorStreamCaptureUnmatched);
    if (!pthread_equal(capture->thread, pthread_self()) && capture->mode != cudaStreamCaptureModeRelaxed)
        return fail(cudaErrorStreamCaptureWrongThread);
    pthread_mutex_lock(&capture_lock);
    bool was_invalid = capture->error != cudaSuccess;
    for_each_stream(leave, capture);
    remove_from_ongoing(capture);
    pthread_mutex_unlock(&capture_lock);
    if (capture->error) return fail(was_invalid ? cudaErrorStreamCaptureInvalidated : capture->error);
    struct graph *made = malloc(sizeof *made);
    *made = (struct graph){capture->num_nodes};
    *graph = (cudaGraph_t)made;
    return cudaSuccess;
}

static enum cudaStreamCaptureStatus status_of(const struct capture *capture) {
    if (!capture) return cudaStreamCaptureStatusNone;
    return capture->error ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, enum cudaStreamCaptureStatus *status) {
    if (is_legacy(handle) && of_this_thread()) return invalidate(of_this_thread(), cudaErrorStreamCaptureImplicit);
    *status = status_of(stream_of(handle)->capture);
    return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *graph, const cudaGraphNode_t **dependencies, const cudaGraphEdgeData **edges,
                                     size_t *num_dependencies) {
    struct capture *capture = stream_of(handle)->capture;
    *status = status_of(capture);
    if (id) *id = (unsigned long long)capture;
    if (graph) *graph = NULL;
    if (dependencies) *dependencies = NULL;
    if (edges) *edges = NULL;
    if (num_dependencies) *num_dependencies = 0;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *number) {
    *number = ((struct graph *)graph)->num_nodes;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags) {
    struct graph *copy = malloc(sizeof *copy);
    *copy = *(struct graph *)graph;
    *executable = (cudaGraphExec_t)copy;
    return unsafe_call();
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags) {
    return cudaGraphInstantiate(executable, graph, flags);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    cudaError_t error = enqueue(stream, LAUNCHES);
    if (!error) count(GRAPH_LAUNCHES);
    return error;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream) { return cudaSuccess; }

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    free(executable);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    free(graph);
    return cudaSuccess;
}

// Objects that live as long as a graph does are kept for ever.
cudaError_t cudaUserObjectCreate(cudaUserObject_t *object, void *pointer, cudaHostFn_t destroy, unsigned references, unsigned flags) {
    *object = (cudaUserObject_t)pointer;
    return cudaSuccess;
}

cudaError_t cudaUserObjectRelease(cudaUserObject_t object, unsigned references) { return cudaSuccess; }
cudaError_t cudaGraphRetainUserObject(cudaGraph_t graph, cudaUserObject_t object, unsigned references, unsigned flags) { return cudaSuccess; }
