// A stand-in for libnvidia-ml.so.1. What it answers stands in a file ($FAKENVML_STATE) that a test maps and changes
// while a process uses the library: values, error codes, calls that hang, a call that crashes. state.py mirrors the
// layout; `size` in the file must match, or the driver "is not loaded". With -DOLD_DRIVER the newer symbols are left out.
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAGIC = 0x4e564d4c, MAX_GPUS = 8, MAX_PROCESSES = 300 };

enum result {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    ARGUMENT_VERSION_MISMATCH = 25,
    CRASH = -1, // not of NVML: the process gets SIGSEGV
};

// Faults are set by call; state.py has the same list.
enum call {
    CALL_INIT,
    CALL_COUNT,
    CALL_HANDLE,
    CALL_NAME,
    CALL_UUID,
    CALL_MEMORY,
    CALL_MEMORY_V2,
    CALL_UTILIZATION,
    CALL_TEMPERATURE,
    CALL_TEMPERATURE_V,
    CALL_POWER,
    CALL_POWER_LIMIT,
    CALL_COMPUTE,
    CALL_GRAPHICS,
    CALL_MPS,
    CALL_PCI,
    CALL_THROTTLE,
    CALLS = 20
};

struct fault {
    int32_t answer; // an enum result; 0: no error
    uint32_t hang_ms;
};

struct process {
    uint32_t pid;
    uint32_t kind; // 0 compute, 1 graphics, 2 MPS
    uint64_t used;
};

struct gpu {
    char name[96];
    char uuid[80];
    char bus_id[32];
    uint64_t total, reserved, used, throttle;
    uint32_t utilization, temperature, power_mw, power_limit_mw;
    uint32_t processes, padding;
    struct fault faults[CALLS];
    struct process process[MAX_PROCESSES];
};

struct state {
    uint32_t magic, size;
    uint32_t gpus, padding;
    struct fault faults[CALLS]; // of every GPU
    uint64_t calls[CALLS];      // how often each was made
    struct gpu gpu[MAX_GPUS];
};

static struct state *state;
static int initialized;

static enum result load(void) {
    if (state) return SUCCESS;
    const char *path = getenv("FAKENVML_STATE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return DRIVER_NOT_LOADED;

    struct stat about;
    void *mapped = MAP_FAILED;
    if (fstat(fd, &about) == 0 && about.st_size == sizeof(struct state))
        mapped = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED) return DRIVER_NOT_LOADED;

    struct state *found = mapped;
    if (found->magic != MAGIC || found->size != sizeof(struct state)) return DRIVER_NOT_LOADED;
    state = found;
    return SUCCESS;
}

static int suffer(struct fault fault) {
    struct timespec left = {fault.hang_ms / 1000, (fault.hang_ms % 1000) * 1000000L};
    while (fault.hang_ms && nanosleep(&left, &left)) {}
    if (fault.answer == CRASH) raise(SIGSEGV);
    return fault.answer;
}

// Every call begins here: counted, then the fault of the whole driver, then that of the one GPU.
static int enter(enum call call, struct gpu *gpu) {
    if (!state || !initialized) return UNINITIALIZED;
    __atomic_add_fetch(&state->calls[call], 1, __ATOMIC_RELAXED);
    int answer = suffer(state->faults[call]);
    if (answer == SUCCESS && gpu) answer = suffer(gpu->faults[call]);
    return answer;
}

#define ENTER(call, gpu)                  \
    do {                                  \
        int answer_ = enter(call, gpu);   \
        if (answer_) return answer_;      \
    } while (0)

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int answer = load();
    if (answer == SUCCESS) answer = suffer(state->faults[CALL_INIT]);
    if (answer == SUCCESS) initialized = 1;
    return answer;
}

int nvmlShutdown(void) {
    initialized = 0;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    static char text[32];
    snprintf(text, sizeof text, "error %d", code);
    return text;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    ENTER(CALL_COUNT, NULL);
    *count = state->gpus;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **handle) {
    if (!state || index >= state->gpus) return INVALID_ARGUMENT;
    ENTER(CALL_HANDLE, &state->gpu[index]);
    *handle = &state->gpu[index];
    return SUCCESS;
}

int nvmlDeviceGetName(struct gpu *gpu, char *text, unsigned length) {
    ENTER(CALL_NAME, gpu);
    snprintf(text, length, "%s", gpu->name);
    return SUCCESS;
}

int nvmlDeviceGetUUID(struct gpu *gpu, char *text, unsigned length) {
    ENTER(CALL_UUID, gpu);
    snprintf(text, length, "%s", gpu->uuid);
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(struct gpu *gpu, unsigned long long *reasons) {
    ENTER(CALL_THROTTLE, gpu);
    *reasons = gpu->throttle;
    return SUCCESS;
}

struct memory {
    uint64_t total, free, used; // used holds the driver's reserve
};

int nvmlDeviceGetMemoryInfo(struct gpu *gpu, struct memory *memory) {
    ENTER(CALL_MEMORY, gpu);
    memory->total = gpu->total;
    memory->used = gpu->used + gpu->reserved;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(struct gpu *gpu, unsigned *percent) {
    ENTER(CALL_UTILIZATION, gpu);
    percent[0] = gpu->utilization; // of the cores
    percent[1] = 0;                // of the memory bus
    return SUCCESS;
}

int nvmlDeviceGetTemperature(struct gpu *gpu, int sensor, unsigned *degrees) {
    (void)sensor;
    ENTER(CALL_TEMPERATURE, gpu);
    *degrees = gpu->temperature;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(struct gpu *gpu, unsigned *milliwatts) {
    ENTER(CALL_POWER, gpu);
    *milliwatts = gpu->power_mw;
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(struct gpu *gpu, unsigned *milliwatts) {
    ENTER(CALL_POWER_LIMIT, gpu);
    *milliwatts = gpu->power_limit_mw;
    return SUCCESS;
}

struct process_info { // of both _v2 and _v3: 24 bytes
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
};

static int list(enum call call, struct gpu *gpu, unsigned *count, struct process_info *out) {
    ENTER(call, gpu);
    unsigned kind = call - CALL_COMPUTE, room = *count, have = 0;
    for (unsigned i = 0; i < gpu->processes && i < MAX_PROCESSES; i++) {
        struct process *process = &gpu->process[i];
        if (process->kind != kind) continue;
        if (out && have < room) out[have] = (struct process_info){process->pid, process->used, ~0u, ~0u};
        have++;
    }
    *count = have;
    return have > room ? INSUFFICIENT_SIZE : SUCCESS;
}

#define LIST(function, call)                                                          \
    int function(struct gpu *gpu, unsigned *count, struct process_info *out) {        \
        return list(call, gpu, count, out);                                           \
    }

LIST(nvmlDeviceGetComputeRunningProcesses_v2, CALL_COMPUTE)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, CALL_GRAPHICS)

#ifndef OLD_DRIVER
LIST(nvmlDeviceGetComputeRunningProcesses_v3, CALL_COMPUTE)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, CALL_GRAPHICS)
LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, CALL_MPS)

struct pci { // nvmlPciInfo_t
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
};

int nvmlDeviceGetPciInfo_v3(struct gpu *gpu, struct pci *pci) {
    ENTER(CALL_PCI, gpu);
    *pci = (struct pci){0};
    snprintf(pci->bus_id, sizeof pci->bus_id, "%s", gpu->bus_id);
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksEventReasons(struct gpu *gpu, unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksThrottleReasons(gpu, reasons);
}

struct memory_v2 {
    unsigned version;
    uint64_t total, reserved, free, used;
};

int nvmlDeviceGetMemoryInfo_v2(struct gpu *gpu, struct memory_v2 *memory) {
    ENTER(CALL_MEMORY_V2, gpu);
    if (memory->version != (sizeof *memory | 2u << 24)) return ARGUMENT_VERSION_MISMATCH;
    memory->total = gpu->total;
    memory->reserved = gpu->reserved;
    memory->used = gpu->used;
    memory->free = gpu->total - gpu->used - gpu->reserved;
    return SUCCESS;
}

struct temperature {
    unsigned version;
    int sensor;
    int degrees;
};

int nvmlDeviceGetTemperatureV(struct gpu *gpu, struct temperature *temperature) {
    ENTER(CALL_TEMPERATURE_V, gpu);
    temperature->degrees = (int)gpu->temperature;
    return SUCCESS;
}
#endif
