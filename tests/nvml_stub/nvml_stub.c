/* A stand-in for libnvidia-ml.so.1: the few calls that configurator/gpu_readers.py makes.
 *
 * NVML_STUB_PROFILE chooses the machine (see PROFILES below), NVML_STUB_NAME and
 * NVML_STUB_TOTAL_MIB override the card, NVML_STUB_PID the process on it,
 * NVML_STUB_LOST_AFTER the number of readings after which GPU 1 of "lost" is gone,
 * NVML_STUB_BACK_AFTER how often NVML must be opened until it is back (0: never).
 * Compiled with -DOLD_DRIVER it has no v2 memory, no v3 processes, no event reasons.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, TOO_SMALL = 7,
       NOT_LOADED = 9, LOST = 15, MISMATCH = 18, UNKNOWN = 999 };
enum { IS_DENIED = 1, IS_SILENT = 2, IS_MIG = 4, IS_UNIFIED = 8, IS_LOSING = 16, IS_LINKED = 32,
       IS_ECC = 64 };

typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct { const char *id; int init, count, flags; const char *name; u64 mib, reserved_mib;
                 u32 sm, mem, bus_bits, cores, major, minor; } Profile;
typedef struct { int index, slice; } Device; /* slice -1: the whole card */

#define NO_CARD "", 0, 0, 0, 0, 0, 0, 0, 0
#define RTX4090 "NVIDIA GeForce RTX 4090", 24564, 512, 3105, 10501, 384, 16384, 8, 9
#define H100 "NVIDIA H100 80GB HBM3", 81559, 480, 1980, 2619, 5120, 16896, 9, 0
static const Profile PROFILES[] = {
    {"4090", OK, 1, 0, RTX4090},
    {"old", OK, 1, 0, RTX4090},
    {"denied", OK, 1, IS_DENIED, RTX4090},
    {"silent", OK, 1, IS_SILENT, RTX4090},
    {"h100x8", OK, 8, IS_LINKED | IS_ECC, H100},
    {"lost", OK, 2, IS_LOSING | IS_ECC, H100},
    {"mig", OK, 1, IS_MIG | IS_ECC, H100},
    {"gb10", OK, 1, IS_UNIFIED, "NVIDIA GB10", 0, 0, 3003, 0, 0, 6144, 12, 1},
    {"no-gpu", OK, 0, 0, NO_CARD},
    {"mismatch", MISMATCH, 0, 0, NO_CARD},
    {"not-loaded", NOT_LOADED, 0, 0, NO_CARD},
    {"no-permission", NO_PERMISSION, 0, 0, NO_CARD},
    {"broken", UNKNOWN, 0, 0, NO_CARD},
};
static const Profile *profile;
static int opened, readings;
static Device devices[8], slices[2];

static u64 number(const char *variable, u64 otherwise) {
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : otherwise;
}
static int is_lost(Device *d) {
    u64 back = number("NVML_STUB_BACK_AFTER", 0);
    return (profile->flags & IS_LOSING) && d->index == 1 && !(back && opened > (int)back)
        && readings > (int)number("NVML_STUB_LOST_AFTER", 2);
}
#define ALIVE(d) if (is_lost(d)) return LOST
#define SPEAKS(d) ALIVE(d); if (profile->flags & IS_SILENT) return NOT_SUPPORTED
#define CARD_ONLY(d) SPEAKS(d); if ((d)->slice >= 0) return NOT_SUPPORTED

int nvmlInitWithFlags(u32 flags) {
    const char *id = getenv("NVML_STUB_PROFILE");
    for (size_t i = 0; i < sizeof PROFILES / sizeof *PROFILES; i++)
        if (id && !strcmp(PROFILES[i].id, id)) profile = &PROFILES[i];
    if (!profile) { fprintf(stderr, "no NVML_STUB_PROFILE %s\n", id ? id : ""); abort(); }
    for (int i = 0; i < 8; i++) devices[i] = (Device){i, -1};
    for (int i = 0; i < 2; i++) slices[i] = (Device){0, i};
    opened++;
    return profile->init;
}
int nvmlShutdown(void) { return OK; }
int nvmlSystemGetDriverVersion(char *text, u32 n) { snprintf(text, n, "580.95.05"); return OK; }
int nvmlSystemGetCudaDriverVersion(int *v) { *v = 13000; return OK; }
int nvmlDeviceGetCount_v2(u32 *n) { *n = profile->count; return OK; }
int nvmlDeviceGetHandleByIndex_v2(u32 i, Device **d) {
    if (i >= (u32)profile->count) return INVALID;
    *d = &devices[i];
    ALIVE(*d);
    return OK;
}
int nvmlDeviceGetName(Device *d, char *text, u32 n) {
    const char *name = getenv("NVML_STUB_NAME");
    ALIVE(d);
    snprintf(text, n, "%s%s", name ? name : profile->name, d->slice >= 0 ? " MIG 1g.10gb" : "");
    return OK;
}
int nvmlDeviceGetUUID(Device *d, char *text, u32 n) {
    SPEAKS(d);
    if (d->slice >= 0) snprintf(text, n, "MIG-stub-%d", d->slice);
    else snprintf(text, n, "GPU-stub-%d", d->index);
    return OK;
}
int nvmlDeviceGetMigMode(Device *d, u32 *now, u32 *next) {
    SPEAKS(d);
    if (!(profile->flags & (IS_MIG | IS_ECC))) return NOT_SUPPORTED;
    *now = *next = !!(profile->flags & IS_MIG);
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(Device *d, u32 *n) { SPEAKS(d); *n = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(Device *d, u32 i, Device **part) {
    SPEAKS(d);
    if (i >= 2) return NOT_FOUND;
    *part = &slices[i];
    return OK;
}

typedef struct { u64 total, free, used; } MemoryV1;
typedef struct { u32 version; u64 total, reserved, free, used; } MemoryV2;
static int memory(Device *d, u64 *total, u64 *used, u64 *reserved) {
    SPEAKS(d);
    if (profile->flags & IS_UNIFIED) return NOT_SUPPORTED;
    *total = (d->slice >= 0 ? 9984 : number("NVML_STUB_TOTAL_MIB", profile->mib)) << 20;
    *reserved = (d->slice >= 0 ? 12 : profile->reserved_mib) << 20;
    *used = 1024ULL << 20;
    return OK;
}
int nvmlDeviceGetMemoryInfo(Device *d, MemoryV1 *m) { /* used includes reserved, as in NVML */
    u64 reserved;
    int rc = memory(d, &m->total, &m->used, &reserved);
    if (rc == OK) { m->used += reserved; m->free = m->total - m->used; }
    return rc;
}
int nvmlDeviceGetUtilizationRates(Device *d, u32 use[2]) {
    if (d->index == 1) readings++;
    CARD_ONLY(d);
    use[0] = 37; use[1] = 12;
    return OK;
}
int nvmlDeviceGetTemperature(Device *d, int sensor, u32 *c) { CARD_ONLY(d); *c = 56; return OK; }
int nvmlDeviceGetPowerUsage(Device *d, u32 *mw) { CARD_ONLY(d); *mw = 123456; return OK; }
int nvmlDeviceGetEnforcedPowerLimit(Device *d, u32 *mw) {
    CARD_ONLY(d);
    if (profile->flags & IS_UNIFIED) return NOT_SUPPORTED;
    *mw = 450000;
    return OK;
}
static int clock_mhz(Device *d, int kind, u32 *mhz) {
    CARD_ONLY(d);
    *mhz = kind == 2 ? profile->mem : profile->sm;
    return *mhz ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetMaxClockInfo(Device *d, int kind, u32 *mhz) { return clock_mhz(d, kind, mhz); }
int nvmlDeviceGetClockInfo(Device *d, int kind, u32 *mhz) {
    int rc = clock_mhz(d, kind, mhz);
    if (rc == OK && kind == 1) *mhz -= 585;
    return rc;
}
int nvmlDeviceGetMemoryBusWidth(Device *d, u32 *n) {
    CARD_ONLY(d);
    *n = profile->bus_bits; /* 0 on GB10: "none" */
    return OK;
}
int nvmlDeviceGetNumGpuCores(Device *d, u32 *n) { CARD_ONLY(d); *n = profile->cores; return OK; }
int nvmlDeviceGetCudaComputeCapability(Device *d, int *major, int *minor) {
    SPEAKS(d);
    *major = profile->major; *minor = profile->minor;
    return OK;
}
int nvmlDeviceGetEccMode(Device *d, u32 *now, u32 *next) {
    CARD_ONLY(d);
    if (!(profile->flags & IS_ECC)) return NOT_SUPPORTED;
    *now = *next = 1;
    return OK;
}
int nvmlDeviceGetTotalEccErrors(Device *d, int type, int counter, u64 *n) {
    CARD_ONLY(d);
    if (!(profile->flags & IS_ECC)) return NOT_SUPPORTED;
    *n = type == 0 ? 3 : 0;
    return OK;
}
static int pcie(Device *d, u32 *n, u32 value) {
    CARD_ONLY(d);
    *n = profile->flags & IS_UNIFIED ? 0 : value; /* no PCIe between the chips of GB10 */
    return OK;
}
int nvmlDeviceGetCurrPcieLinkGeneration(Device *d, u32 *n) { return pcie(d, n, 1); }
int nvmlDeviceGetMaxPcieLinkGeneration(Device *d, u32 *n) { return pcie(d, n, 4); }
int nvmlDeviceGetCurrPcieLinkWidth(Device *d, u32 *n) { return pcie(d, n, 8); }
int nvmlDeviceGetMaxPcieLinkWidth(Device *d, u32 *n) { return pcie(d, n, 16); }
int nvmlDeviceGetComputeMode(Device *d, u32 *mode) { CARD_ONLY(d); *mode = 0; return OK; }
int nvmlDeviceGetNvLinkState(Device *d, u32 link, u32 *on) {
    CARD_ONLY(d);
    if (!(profile->flags & IS_LINKED)) return NOT_SUPPORTED;
    if (link >= 18) return INVALID;
    *on = 1;
    return OK;
}
int nvmlDeviceGetP2PStatus(Device *a, Device *b, int kind, u32 *status) {
    CARD_ONLY(a);
    ALIVE(b);
    *status = (profile->flags & IS_LINKED) && kind == 2 ? 0 : 5;
    return OK;
}

static int reasons(Device *d, u64 *mask) { CARD_ONLY(d); *mask = 0x4 | 0x20; return OK; }
typedef struct { u32 pid; u64 used; u32 gpu_instance, compute_instance; } Process;
static int compute(Device *d, u32 *n, Process *p) {
    SPEAKS(d);
    if (profile->flags & IS_DENIED) return NO_PERMISSION;
    if (d->index > 0 || d->slice > 0) { *n = 0; return OK; }
    if (*n < 1) { *n = 1; return TOO_SMALL; }
    *n = 1;
    p[0] = (Process){(u32)number("NVML_STUB_PID", (u64)getpid()), 768ULL << 20, 0, 0};
    return OK;
}
static int graphics(Device *d, u32 *n, Process *p) { /* no such process; memory unsaid */
    SPEAKS(d);
    if (profile->flags & IS_DENIED) return NO_PERMISSION;
    if (d->index > 0 || d->slice >= 0 || !getenv("NVML_STUB_GRAPHICS")) { *n = 0; return OK; }
    if (*n < 1) { *n = 1; return TOO_SMALL; }
    *n = 1;
    p[0] = (Process){4194305, ~0ULL, 0, 0}; /* one more than Linux's highest pid */
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v2(Device *d, u32 *n, Process *p) {
    return compute(d, n, p);
}
int nvmlDeviceGetGraphicsRunningProcesses_v2(Device *d, u32 *n, Process *p) {
    return graphics(d, n, p);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(Device *d, u64 *mask) { return reasons(d, mask); }
#ifndef OLD_DRIVER
int nvmlDeviceGetMemoryInfo_v2(Device *d, MemoryV2 *m) {
    int rc = memory(d, &m->total, &m->used, &m->reserved);
    if (rc == OK) m->free = m->total - m->used - m->reserved;
    return rc;
}
int nvmlDeviceGetComputeRunningProcesses_v3(Device *d, u32 *n, Process *p) {
    return compute(d, n, p);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Device *d, u32 *n, Process *p) {
    return graphics(d, n, p);
}
int nvmlDeviceGetCurrentClocksEventReasons(Device *d, u64 *mask) { return reasons(d, mask); }
#endif

/* nvidia-ml-py turns the code into words itself only for codes it knows */
const char *nvmlErrorString(int code) { return code == UNKNOWN ? "Unknown Error" : "stub error"; }
