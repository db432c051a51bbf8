// Counters of each device; Python reads them through ctypes.
#include "fake.h"
#include <stdatomic.h>

static const char *const NAMES[NUM_KINDS] = {
    "launches",    "library_calls",  "memsets",     "copies",           "pageable_copies", "syncs",
    "graph_nodes", "graph_launches", "allocations", "host_allocations", "contexts",
};
static atomic_long counts[MAX_DEVICES][NUM_KINDS];

void count(enum kind kind) { atomic_fetch_add(&counts[current_device()][kind], 1); }

int fake_num_kinds(void) { return NUM_KINDS; }
const char *fake_kind(int kind) { return NAMES[kind]; }
long fake_count(int device, int kind) { return atomic_load(&counts[device][kind]); }
