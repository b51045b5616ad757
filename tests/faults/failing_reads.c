/* Reads that fail: LD_PRELOAD this, then arm() says of which file, how, and at which calls. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char name[4096];
static int with, first, last, calls;

/* Calls first to last of those that read a file whose path holds `part` fail with `error`. */
void arm(const char *part, int error, int from, int to) {
    snprintf(name, sizeof name, "%s", part);
    with = error, first = from, last = to, calls = 0;
}

/* How many calls read such a file since. */
int seen(void) { return calls; }

static int fails(int file) {
    char link[64], path[4096];
    if (!name[0] || file < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, name)) return 0;
    calls++;
    if (calls < first || calls > last) return 0;
    errno = with;
    return 1;
}

#define REAL(type, function, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, #function)

ssize_t read(int file, void *to, size_t size) {
    REAL(ssize_t, read, int, void *, size_t);
    return fails(file) ? -1 : real(file, to, size);
}

ssize_t pread(int file, void *to, size_t size, off_t at) {
    REAL(ssize_t, pread, int, void *, size_t, off_t);
    return fails(file) ? -1 : real(file, to, size, at);
}

ssize_t pread64(int file, void *to, size_t size, off_t at) {
    REAL(ssize_t, pread64, int, void *, size_t, off_t);
    return fails(file) ? -1 : real(file, to, size, at);
}

size_t fread(void *to, size_t size, size_t count, FILE *file) {
    REAL(size_t, fread, void *, size_t, size_t, FILE *);
    return fails(fileno(file)) ? 0 : real(to, size, count, file);
}
