/* Preloaded into a process: its clock is ahead of the machine's by as many microseconds as a file says that has the number of the
   process for a name, in the directory that CLOCKS_AHEAD names. No such file: by none. Only the time of day is moved; what is
   measured with the monotonic clock goes on. No state and no memory, because the allocator of Redis asks for the time before
   anything is set up, which is where general libraries of this kind give up. Nothing for a JVM, which asks for the time too often. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long ahead(void) {
  const char *directory = getenv("CLOCKS_AHEAD");
  if (!directory || strcmp(program_invocation_short_name, "java") == 0) return 0;
  char name[16] = {0}, text[32] = {0};
  char *digit = name + sizeof name - 1;
  for (pid_t pid = getpid(); pid > 0; pid /= 10) *--digit = (char)('0' + pid % 10);
  int before = errno;
  int folder = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
  int file = folder < 0 ? -1 : openat(folder, digit, O_RDONLY | O_CLOEXEC);
  ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);
  if (file >= 0) close(file);
  if (folder >= 0) close(folder);
  errno = before;
  return length > 0 ? strtoll(text, NULL, 10) : 0;
}

static long long now(void) {
  struct timespec real;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &real);
  return real.tv_sec * 1000000LL + real.tv_nsec / 1000 + ahead();
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
  (void)zone;
  long long time = now();
  tv->tv_sec = time / 1000000;
  tv->tv_usec = time % 1000000;
  return 0;
}

time_t time(time_t *out) {
  time_t seconds = now() / 1000000;
  if (out) *out = seconds;
  return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
  if (clock != CLOCK_REALTIME) return (int)syscall(SYS_clock_gettime, clock, out);
  long long time = now();
  out->tv_sec = time / 1000000;
  out->tv_nsec = time % 1000000 * 1000;
  return 0;
}
