/* The worker of the benchmarks, as small as a process can be: what it costs is not what is measured.
 *
 *   worker idle BORN                                    notes its birth, then sleeps
 *   worker grow BORN PAGE START RATE LIMIT MARK FLOOR [stubborn]
 *                                                       touches START bytes and waits for 'go' in PAGE, then grows at
 *                                                       RATE bytes/s (0: as fast as it can) to LIMIT at most;
 *                                                       a stubborn one notes a stop signal and goes on
 *
 * Each birth is appended to BORN: "NANOSECONDS PID". PAGE is a file of eight 64-bit numbers shared with the benchmark:
 * go, crossed (own memory above MARK, or less than FLOOR left on the machine), told (first stop signal), alive (last sign of
 * life), held (bytes). All times are CLOCK_MONOTONIC in ns. It ends by itself 45 s after 'go'.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { GO, CROSSED, TOLD, ALIVE, HELD, SLOTS = 8 };
#define STEP (1UL << 20)
#define END_NS 45000000000UL

static volatile uint64_t *page;
static int stubborn;

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000UL + (uint64_t)at.tv_nsec;
}

static void told(int signum) {
    (void)signum;
    if (page[TOLD] == 0) page[TOLD] = now();
    if (!stubborn) _exit(0);
}

static void note_birth(const char *path, uint64_t born) {
    char line[64];
    int size = snprintf(line, sizeof line, "%lu %d\n", (unsigned long)born, (int)getpid());
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, (size_t)size) != size) _exit(1);
    close(fd);
}

static uint64_t field(const char *text, const char *name) {
    const char *found = strstr(text, name);
    return found ? strtoull(found + strlen(name), NULL, 10) * 1024 : 0;
}

/* What the daemon judges by: MemAvailable, but no more than what is free or page cache. */
static uint64_t available(int meminfo) {
    static char text[4096];
    ssize_t size = pread(meminfo, text, sizeof text - 1, 0);
    if (size <= 0) return UINT64_MAX;
    text[size] = 0;
    uint64_t said = field(text, "MemAvailable:");
    uint64_t free = field(text, "MemFree:") + field(text, "\nBuffers:") + field(text, "\nCached:") -
                    field(text, "\nShmem:") + field(text, "SwapFree:");
    return said < free ? said : free;
}

int main(int count, char **words) {
    uint64_t born = now();
    if (count < 3) return 2;
    note_birth(words[2], born);
    alarm(count < 9 ? 1800 : 120); /* whatever happens to the benchmark */
    if (count < 9) for (;;) pause();

    int fd = open(words[3], O_RDWR | O_CLOEXEC);
    page = mmap(NULL, SLOTS * sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint64_t start = strtoull(words[4], NULL, 10), rate = strtoull(words[5], NULL, 10);
    uint64_t limit = strtoull(words[6], NULL, 10), mark = strtoull(words[7], NULL, 10);
    uint64_t floor = strtoull(words[8], NULL, 10);
    char *memory = mmap(NULL, limit, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    stubborn = count > 9;
    int meminfo = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || page == MAP_FAILED || memory == MAP_FAILED || meminfo < 0) return 1;
    signal(SIGTERM, told);
    signal(SIGINT, told); /* PM2's */

    uint64_t held = 0;
    for (; held < start; held += 4096) memory[held] = 1;
    page[HELD] = held;
    while (page[GO] == 0) usleep(1000);
    if (page[CROSSED] != 0) for (;;) pause(); /* the successor of one that was measured */
    for (uint64_t began = now(), at = began; at - began < END_NS; at = now()) {
        uint64_t due = rate == 0 ? limit : start + (uint64_t)((double)rate * (double)(at - began) / 1e9);
        if (due > limit) due = limit;
        for (uint64_t end = held + STEP; held < due && held < end; held += 4096) memory[held] = 1;
        page[HELD] = held;
        page[ALIVE] = at = now();
        if (page[CROSSED] == 0 && (held > mark || (floor != 0 && available(meminfo) < floor))) page[CROSSED] = at;
        if (held >= due) usleep(200);
    }
    return 0;
}
