/* Preloaded into a Redis server: its clock is ahead of the machine's by as many microseconds as the file says that
   PORTOLAN_CLOCK_FILE names. No state and no memory, because the server's allocator asks for the time before anything is
   set up, which is where general libraries of this kind give up. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long ahead(void) {
  const char *path = getenv("PORTOLAN_CLOCK_FILE");
  char text[32] = {0};
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return 0;
  ssize_t length = read(file, text, sizeof text - 1);
  close(file);
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
