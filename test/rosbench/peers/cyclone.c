// The benchmark's peer on Eclipse Cyclone DDS; what it does and prints is said in peer.go.
#include "rosbench.h"

#include <dds/dds.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

typedef rosbench_Sample sample;

static const char *mode;
static long size = 64, count = 1000, warm = 200;
static double seconds = 1;
static dds_entity_t writer;
static sample out;
static uint64_t sent_at, *rtts, received, last, begun, finished;
static long trips;
static int64_t cpu_before, cpu_after;
static volatile sig_atomic_t done;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int64_t cpu(void) {
  struct rusage r;
  getrusage(RUSAGE_SELF, &r);
  return (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000LL + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000LL;
}

static int compare(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static void put(uint32_t phase) {
  out.number++;
  out.phase = phase;
  dds_return_t rc = dds_write(writer, &out);
  if (rc != DDS_RETCODE_OK) {
    fprintf(stderr, "write: %s\n", dds_strretcode(rc));
    exit(1);
  }
}

static void ping(void) {
  uint32_t phase = trips <= warm ? 0 : trips <= warm + count ? 1 : 2;
  sent_at = now();
  put(phase);
}

static void pinged(void) {
  uint64_t t = now() - sent_at;
  if (out.phase == 1)
    rtts[trips - warm - 1] = t;
  trips++;
  if (trips == warm + 1)
    cpu_before = cpu();
  if (out.phase == 2)
    done = 1;
  else {
    if (trips == warm + count + 1)
      cpu_after = cpu();
    ping();
  }
}

static void on_data(dds_entity_t reader, void *arg) {
  (void)arg;
  void *taken = NULL;
  dds_sample_info_t info;
  while (dds_take(reader, &taken, &info, 1, 1) == 1) {
    sample *s = taken;
    if (info.valid_data && !strcmp(mode, "ping")) {
      if (s->number == out.number)
        pinged();
    } else if (info.valid_data) {
      if (s->phase == 1 && received++ == 0)
        cpu_before = cpu(), begun = now(), last = s->number;
      if (s->phase == 2)
        cpu_after = cpu(), finished = now(), last = s->number - last;
      if (!strcmp(mode, "pong"))
        dds_write(writer, s);
      if (s->phase == 2)
        done = 1;
    }
    dds_return_loan(reader, &taken, 1);
    taken = NULL;
  }
}

static void on_signal(int s) {
  (void)s;
  done = 1;
}

static dds_entity_t must(dds_entity_t e) {
  if (e < 0) {
    fprintf(stderr, "cyclone: %s\n", dds_strretcode(e));
    exit(1);
  }
  return e;
}

int main(int argc, char **argv) {
  if (argc < 2)
    return 2;
  mode = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    if (!strcmp(argv[i], "--size"))
      size = atol(argv[i + 1]);
    else if (!strcmp(argv[i], "--count"))
      count = atol(argv[i + 1]);
    else if (!strcmp(argv[i], "--warm"))
      warm = atol(argv[i + 1]);
    else if (!strcmp(argv[i], "--seconds"))
      seconds = atof(argv[i + 1]);
  }
  signal(SIGTERM, on_signal);
  bool sends = strcmp(mode, "sub") && strcmp(mode, "watch"), receives = strcmp(mode, "pub") && strcmp(mode, "watch"), flow = !strcmp(mode, "pub") || !strcmp(mode, "sub");
  rtts = calloc((size_t)count + 1, sizeof(*rtts));
  uint8_t *data = calloc(1, (size_t)size + 1);
  out.data._buffer = data, out.data._length = out.data._maximum = (uint32_t)size;

  dds_entity_t participant = must(dds_create_participant(0, NULL, NULL));
  dds_qos_t *qos = dds_create_qos();
  dds_qset_reliability(qos, DDS_RELIABILITY_RELIABLE, DDS_SECS(10));
  dds_qset_history(qos, flow ? DDS_HISTORY_KEEP_ALL : DDS_HISTORY_KEEP_LAST, flow ? DDS_LENGTH_UNLIMITED : 10);
  dds_entity_t there = must(dds_create_topic(participant, &rosbench_Sample_desc, "there", NULL, NULL));
  dds_entity_t back = must(dds_create_topic(participant, &rosbench_Sample_desc, "back", NULL, NULL));
  bool pong = !strcmp(mode, "pong");
  if (sends)
    writer = must(dds_create_writer(participant, pong ? back : there, qos, NULL));
  dds_entity_t reader = 0;
  if (receives) {
    dds_listener_t *l = dds_create_listener(NULL);
    dds_lset_data_available(l, on_data);
    reader = must(dds_create_reader(participant, !strcmp(mode, "ping") ? back : there, qos, l));
  }
  printf("ready\n");
  fflush(stdout);
  for (int matched = 0; !matched && !done && strcmp(mode, "watch");) {
    dds_instance_handle_t h;
    matched = (!sends || dds_get_matched_subscriptions(writer, &h, 1) > 0) && (!receives || dds_get_matched_publications(reader, &h, 1) > 0);
    usleep(1000);
  }
  usleep(200000);
  if (!strcmp(mode, "ping")) {
    trips = 1;
    ping();
  } else if (!strcmp(mode, "pub")) {
    for (long i = 0; i < warm; i++)
      put(0);
    dds_wait_for_acks(writer, DDS_SECS(5));
    cpu_before = cpu(), begun = now();
    while (now() - begun < (uint64_t)(seconds * 1e9))
      put(1), received++;
    put(2);
    dds_wait_for_acks(writer, DDS_SECS(10));
    cpu_after = cpu();
    done = 1;
  }
  while (!done)
    usleep(2000);
  if (!strcmp(mode, "ping")) {
    qsort(rtts, (size_t)count, sizeof(*rtts), compare);
    printf("rtt %llu %llu\n", (unsigned long long)rtts[count / 2], (unsigned long long)rtts[count * 99 / 100]);
  } else if (!strcmp(mode, "sub")) {
    printf("got %llu of %llu in %llu\n", (unsigned long long)received, (unsigned long long)last, (unsigned long long)(finished - begun));
  }
  printf("cpu %lld\n", (long long)(cpu_after - cpu_before));
  fflush(stdout);
  usleep(200000);
  dds_delete(participant);
  return 0;
}
