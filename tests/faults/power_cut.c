/* Records what a process makes durable, for tests/faults/power_cut.py. Loaded with LD_PRELOAD.

   POWER_CUT_ROOT     the folder that is watched
   POWER_CUT_JOURNAL  an existing folder for the journal: one line in "events" for each sync, and copies of contents

   At each fsync or fdatasync of a regular file below the root, its content of that moment is copied. At each one of a
   folder, its entries are listed. Everything else counts as lost. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static atomic_uint counter;

static void write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t done = write(fd, data, size);
        if (done <= 0) abort(); /* a journal with gaps would prove nothing */
        data += done;
        size -= (size_t)done;
    }
}

static void copy_content(int fd, int copy) {
    static _Thread_local char buffer[1 << 16];
    off_t at = 0;
    ssize_t got;
    while ((got = pread(fd, buffer, sizeof buffer, at)) > 0) {
        write_all(copy, buffer, (size_t)got);
        at += got;
    }
    if (got < 0) abort();
}

/* One entry is "INODE TYPE NAME" and a NUL, because a name can contain a line end. */
static void list_entries(const char *path, int copy) {
    DIR *folder = opendir(path);
    if (!folder) abort();
    struct dirent *entry;
    char line[NAME_MAX + 64];
    while ((entry = readdir(folder))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        char kind = entry->d_type == DT_DIR ? 'd' : 'f';
        int size = snprintf(line, sizeof line, "%llu %c %s", (unsigned long long)entry->d_ino, kind, entry->d_name);
        write_all(copy, line, (size_t)size + 1);
    }
    closedir(folder);
}

static int sync_and_record(int fd, const char *symbol) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, symbol);
    const char *root = getenv("POWER_CUT_ROOT"), *journal = getenv("POWER_CUT_JOURNAL");
    char link[64], path[PATH_MAX], copy_path[PATH_MAX], line[256];
    struct stat found;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!root || !journal || length < 0 || fstat(fd, &found) != 0) return real(fd);
    path[length] = 0;
    size_t prefix = strlen(root);
    if (strncmp(path, root, prefix) != 0 || (path[prefix] != '/' && path[prefix] != 0)) return real(fd);

    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    char name[64];
    snprintf(name, sizeof name, "%d-%u", getpid(), atomic_fetch_add(&counter, 1));
    snprintf(copy_path, sizeof copy_path, "%s/%s", journal, name);
    int copy = open(copy_path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (copy < 0) abort();
    if (S_ISDIR(found.st_mode)) {
        list_entries(path, copy);
    } else {
        /* A second descriptor only if this one cannot read: closing it drops SQLite's locks on the file. */
        int writes_only = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY;
        int reader = writes_only ? open(link, O_RDONLY) : fd;
        if (reader < 0) abort();
        copy_content(reader, copy);
        if (writes_only) close(reader);
    }
    close(copy);
    int result = real(fd);
    int error = errno;
    if (result == 0) {
        /* After the real one: until it returns, nothing may rely on it. Appending a line is atomic. */
        snprintf(copy_path, sizeof copy_path, "%s/events", journal);
        int events = open(copy_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
        int size = snprintf(line, sizeof line, "%llu %lld%09ld %s\n", (unsigned long long)found.st_ino,
                            (long long)start.tv_sec, start.tv_nsec, name);
        if (events < 0) abort();
        write_all(events, line, (size_t)size);
        close(events);
    }
    errno = error;
    return result;
}

int fsync(int fd) { return sync_and_record(fd, "fsync"); }

int fdatasync(int fd) { return sync_and_record(fd, "fdatasync"); }
