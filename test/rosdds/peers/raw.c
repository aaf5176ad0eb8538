// The part of the raw programs that no vendor's library is needed for.
#include "raw.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned readers, writers, matched, arrived;
  bool call, stopped;
} raw;

static const char *program;

static int usage(void) {
  fprintf(stderr,
    "usage: %s sub TOPIC TYPE [options]                    names as in DDS: rt/chatter std_msgs::msg::dds_::String_\n"
    "       %s call SERVICE TYPE [FIELD...] [options]      names without what ROS adds: echo rosdds::srv::dds_::Echo\n"
    "  --user-data TEXT   of the endpoints\n"
    "  --transient-local  (default volatile; always reliable)\n"
    "  --depth N          samples kept (default 10)\n"
    "  --count N          call: requests, one after another; sub: samples, 0 = until stopped (default 1)\n"
    "  --timeout S        seconds for the whole run (default 30)\n"
    "Prints, one line each:  ready | matched N | asked UNIX_TIME | sample UNIX_TIME HEX | reply UNIX_TIME HEX | done N\n"
    "HEX is the whole payload. Exits 0 when the count is reached and after SIGTERM, 1 on a timeout or an error, 2 on wrong usage.\n",
    program, program);
  return 2;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool parse(int argc, char **argv, struct raw_options *o) {
  static char *fields[RAW_FIELDS_MAX];
  *o = (struct raw_options){.depth = 10, .count = 1, .timeout = 30, .user_data = "", .fields = fields};
  if (argc < 4 || (strcmp(argv[1], "sub") != 0 && strcmp(argv[1], "call") != 0))
    return false;
  o->call = strcmp(argv[1], "call") == 0;
  if (strlen(argv[2]) > RAW_NAME_MAX - 16 || strlen(argv[3]) > RAW_NAME_MAX - 16)
    return false;
  if (o->call) {
    snprintf(o->out_topic, RAW_NAME_MAX, "rq/%sRequest", argv[2]);
    snprintf(o->in_topic, RAW_NAME_MAX, "rr/%sReply", argv[2]);
    snprintf(o->out_type, RAW_NAME_MAX, "%s_Request_", argv[3]);
    snprintf(o->in_type, RAW_NAME_MAX, "%s_Response_", argv[3]);
  } else {
    snprintf(o->in_topic, RAW_NAME_MAX, "%s", argv[2]);
    snprintf(o->in_type, RAW_NAME_MAX, "%s", argv[3]);
  }
  for (int i = 4; i < argc; i++) {
    if (strcmp(argv[i], "--transient-local") == 0) {
      o->transient_local = true;
    } else if (strncmp(argv[i], "--", 2) != 0) {
      if (!o->call || o->n_fields == RAW_FIELDS_MAX)
        return false;
      fields[o->n_fields++] = argv[i];
    } else if (++i == argc) {
      return false;
    } else if (strcmp(argv[i - 1], "--user-data") == 0) {
      o->user_data = argv[i];
    } else if (strcmp(argv[i - 1], "--depth") == 0) {
      o->depth = (unsigned)strtoul(argv[i], NULL, 10);
    } else if (strcmp(argv[i - 1], "--count") == 0) {
      o->count = (unsigned)strtoul(argv[i], NULL, 10);
    } else if (strcmp(argv[i - 1], "--timeout") == 0) {
      o->timeout = strtod(argv[i], NULL);
    } else {
      return false;
    }
  }
  return o->depth > 0 && o->depth <= 10000 && o->timeout > 0 && o->timeout < 1e6 && (!o->call || o->count > 0);
}

void raw_matched(bool reader, unsigned n) {
  pthread_mutex_lock(&raw.lock);
  *(reader ? &raw.writers : &raw.readers) = n;
  const unsigned both = raw.call && raw.readers < raw.writers ? raw.readers : raw.writers;
  if (both != raw.matched)
    printf("matched %u\n", raw.matched = both);
  pthread_cond_broadcast(&raw.changed);
  pthread_mutex_unlock(&raw.lock);
}

void raw_arrived(const uint8_t *payload, size_t size) {
  pthread_mutex_lock(&raw.lock);
  printf("%s %.6f ", raw.call ? "reply" : "sample", now());
  for (size_t i = 0; i < size; i++)
    printf("%02x", payload[i]);
  printf("\n");
  raw.arrived++;
  pthread_cond_broadcast(&raw.changed);
  pthread_mutex_unlock(&raw.lock);
}

static void *stop_on_signal(void *set) {
  int sig;
  sigwait(set, &sig);
  pthread_mutex_lock(&raw.lock);
  raw.stopped = true;
  pthread_cond_broadcast(&raw.changed);
  pthread_mutex_unlock(&raw.lock);
  return NULL;
}

// Waits, with the lock held, until so much has arrived, or until both endpoints match.
static bool wait_for(unsigned arrived, unsigned matched, const struct timespec *deadline) {
  int rc = 0;
  while (!raw.stopped && rc == 0 && (raw.arrived < arrived || raw.matched < matched))
    rc = pthread_cond_timedwait(&raw.changed, &raw.lock, deadline);
  return raw.arrived >= arrived && raw.matched >= matched;
}

int raw_main(int argc, char **argv, const struct raw_vendor *vendor) {
  static struct raw_options o;
  program = vendor->program;
  if (!parse(argc, argv, &o))
    return usage();
  setvbuf(stdout, NULL, _IOLBF, 0);
  pthread_mutex_init(&raw.lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&raw.changed, &attr);
  raw.call = o.call;
  static sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, NULL); // before a library starts threads
  pthread_t thread;
  pthread_create(&thread, NULL, stop_on_signal, &set);
  struct timespec deadline;
  clock_gettime(CLOCK_MONOTONIC, &deadline);
  deadline.tv_sec += (time_t)ceil(o.timeout);
  if (!vendor->open(&o))
    return 1;
  printf("ready\n");

  pthread_mutex_lock(&raw.lock);
  bool ok = true;
  if (o.call) {
    ok = wait_for(0, 1, &deadline);
    for (unsigned i = 1; ok && i <= o.count; i++) {
      printf("asked %.6f\n", now());
      pthread_mutex_unlock(&raw.lock);
      ok = vendor->ask();
      pthread_mutex_lock(&raw.lock);
      ok = ok && wait_for(i, 0, &deadline);
    }
  } else {
    ok = wait_for(o.count > 0 ? o.count : (unsigned)-1, 0, &deadline);
  }
  ok = ok || raw.stopped;
  printf("done %u\n", raw.arrived);
  if (!ok)
    fprintf(stderr, "%s: not everything was reached: matched %u, arrived %u\n", program, raw.matched, raw.arrived);
  pthread_mutex_unlock(&raw.lock);
  vendor->close();
  return ok ? 0 : 1;
}
