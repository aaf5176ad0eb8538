// The part of the demo peers that no vendor's library is needed for.
#include "peer.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_SENDERS 64

// Seconds a finished reliable receiver stays for the senders to leave first, so that its last acknowledgements arrive.
#define LINGER 1.0

// What is known of one sender. A restarted sender keeps its name and has another run number.
struct sender {
  char name[PEER_NAME_MAX + 1];
  uint64_t run;
  unsigned long last; // highest sequence number received
};

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct peer_options options;
  uint64_t run;
  bool stopped; // by a signal
  bool done;    // the last line has been printed
  unsigned readers, writers, matched;
  unsigned long sent, received, lost, duplicates, corrupt;
  struct sender senders[MAX_SENDERS];
  size_t n_senders;
} peer;

static const char *program;

static void usage(FILE *f) {
  fprintf(f,
    "usage: %s pub|sub|both --name NAME [options]\n"
    "  --name NAME      sender name, 1..%d letters, digits, '-', '_' or '.'\n"
    "  --count N        pub: samples to send; sub: samples to receive; 0 = until stopped (default 10)\n"
    "  --rate HZ        samples per second; 0 = as fast as possible (default 10)\n"
    "  --size BYTES     payload bytes per sample, 0..%d (default 64)\n"
    "  --domain D       DDS domain, 0..232 (default 0)\n"
    "  --reliable       lost samples are sent again (the default)\n"
    "  --best-effort    they are not\n"
    "  --depth N        keep the last N samples, 1..1000, with the QoS of a ROS node; a sender that is late sends less (default 0:\n"
    "                   keep what is not acknowledged, send all)\n"
    "  --times          end 'sent' and 'received' lines with the time, in seconds of the monotonic clock\n"
    "  --match N        remote readers to wait for before sending (default 1)\n"
    "  --timeout S      seconds for the whole run; 0 = none (default 30, none with --count 0)\n"
    "Prints to stdout, one line each:\n"
    "  ready                        writer and reader exist\n"
    "  matched N                    N remote readers (pub), writers (sub), the smaller of both (both)\n"
    "  sent SEQ\n"
    "  received NAME SEQ SIZE       checksum verified\n"
    "  corrupt SIZE                 checksum wrong\n"
    "  foreign SIZE                 somebody else's text, not counted\n"
    "  done received=R lost=L duplicates=D corrupt=C [sent=S]   (sub, both)\n"
    "  done sent=S                  (pub)\n"
    "Exits 0 when the count is reached (reliable: and acknowledged), after SIGINT or SIGTERM, or with --count 0 when the\n"
    "time is over; 1 with a reason on stderr on a timeout, an error or a corrupt sample; 2 on wrong usage.\n",
    program, PEER_NAME_MAX, PEER_SIZE_MAX);
}

static bool name_valid(const char *s) {
  size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
  return n > 0 && n <= PEER_NAME_MAX && s[n] == 0;
}

static bool parse_ulong(const char *s, unsigned long max, unsigned long *out) {
  char *end;
  if (*s < '0' || *s > '9')
    return false;
  errno = 0;
  *out = strtoul(s, &end, 10);
  return errno == 0 && *end == 0 && *out <= max;
}

static bool parse_double(const char *s, double max, double *out) {
  char *end;
  *out = strtod(s, &end);
  return end != s && *end == 0 && isfinite(*out) && *out >= 0 && *out <= max;
}

static bool parse(int argc, char **argv, struct peer_options *o) {
  *o = (struct peer_options){.reliable = true, .count = 10, .rate = 10, .size = 64, .match = 1, .timeout = -1};
  if (argc < 2)
    return false;
  o->publish = strcmp(argv[1], "pub") == 0 || strcmp(argv[1], "both") == 0;
  o->subscribe = strcmp(argv[1], "sub") == 0 || strcmp(argv[1], "both") == 0;
  if (!o->publish && !o->subscribe)
    return false;
  for (int i = 2; i < argc; i++) {
    const char *flag = argv[i];
    if (strcmp(flag, "--reliable") == 0) {
      o->reliable = true;
      continue;
    }
    if (strcmp(flag, "--best-effort") == 0) {
      o->reliable = false;
      continue;
    }
    if (strcmp(flag, "--times") == 0) {
      o->times = true;
      continue;
    }
    const char *value = i + 1 < argc ? argv[++i] : "";
    unsigned long n = 0;
    bool ok = false;
    if (strcmp(flag, "--name") == 0) {
      if ((ok = name_valid(value)))
        strcpy(o->name, value);
    } else if (strcmp(flag, "--count") == 0) {
      ok = parse_ulong(value, 1000000000, &o->count);
    } else if (strcmp(flag, "--rate") == 0) {
      ok = parse_double(value, 1e6, &o->rate);
    } else if (strcmp(flag, "--size") == 0) {
      ok = parse_ulong(value, PEER_SIZE_MAX, &n);
      o->size = n;
    } else if (strcmp(flag, "--domain") == 0) {
      ok = parse_ulong(value, 232, &n);
      o->domain = (unsigned)n;
    } else if (strcmp(flag, "--depth") == 0) {
      ok = parse_ulong(value, 1000, &n);
      o->depth = (unsigned)n;
    } else if (strcmp(flag, "--match") == 0) {
      ok = parse_ulong(value, 1000, &n);
      o->match = (unsigned)n;
    } else if (strcmp(flag, "--timeout") == 0) {
      ok = parse_double(value, 1e6, &o->timeout);
    }
    if (!ok) {
      fprintf(stderr, "%s: bad option or value: %s %s\n", program, flag, value);
      return false;
    }
  }
  if (o->name[0] == 0) {
    fprintf(stderr, "%s: --name is missing\n", program);
    return false;
  }
  if (o->timeout < 0)
    o->timeout = o->count > 0 ? 30 : 0;
  return true;
}

// CRC-32 as in zlib and Ethernet.
static uint32_t crc32_table[256];

static void crc32_init(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int k = 0; k < 8; k++)
      c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
    crc32_table[i] = c;
  }
}

static uint32_t crc32(const char *data, size_t n) {
  uint32_t c = 0xffffffffu;
  for (size_t i = 0; i < n; i++)
    c = crc32_table[(c ^ (unsigned char)data[i]) & 0xff] ^ (c >> 8);
  return c ^ 0xffffffffu;
}

// A text is "hnet CRC NAME RUN SEQ SIZE PAYLOAD": eight hex digits of CRC-32 over everything after them and their
// space, then name, run number in hex, sequence number from 1, payload length and the payload in printable ASCII.
#define TEXT_START "hnet "
#define TEXT_BODY (sizeof(TEXT_START) - 1 + 8 + 1)

// Returns the length of the text; `text` has room for PEER_TEXT_MAX bytes.
static size_t encode(char *text, const struct peer_options *o, uint64_t run, unsigned long seq) {
  size_t n = TEXT_BODY;
  n += (size_t)sprintf(text + n, "%s %" PRIx64 " %lu %zu ", o->name, run, seq, o->size);
  uint64_t x = run ^ (uint64_t)seq * 0x9e3779b97f4a7c15u ^ 1;
  for (size_t i = 0; i < o->size; i++) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    text[n++] = (char)('!' + (x >> 33) % 94);
  }
  char head[TEXT_BODY + 1];
  sprintf(head, TEXT_START "%08" PRIx32 " ", crc32(text + TEXT_BODY, n - TEXT_BODY));
  memcpy(text, head, TEXT_BODY);
  text[n] = 0;
  return n;
}

// What a reliable sender says before its first sample. Two endpoints do not discover each other at the same instant: a
// reader that the writer knows may not know the writer yet, and a volatile reader never asks for what came before. It
// acknowledges only what it knows, so once this is acknowledged nothing sent later can be missed.
#define TEXT_HELLO "hnet hello"

enum decoded { DECODED, HELLO, FOREIGN, CORRUPT };

static enum decoded decode(const char *text, size_t length, struct sender *from, unsigned long *seq, size_t *size) {
  char head[160];
  if (length == sizeof(TEXT_HELLO) - 1 && memcmp(text, TEXT_HELLO, length) == 0)
    return HELLO;
  if (length < TEXT_BODY || memcmp(text, TEXT_START, sizeof(TEXT_START) - 1) != 0)
    return FOREIGN;
  size_t n = length < sizeof(head) ? length : sizeof(head) - 1;
  memcpy(head, text, n);
  head[n] = 0;
  uint32_t crc;
  int used = 0;
  if (sscanf(head, TEXT_START "%8" SCNx32 " %32s %" SCNx64 " %lu %zu%n", &crc, from->name, &from->run, seq, size, &used) != 5)
    return CORRUPT;
  if (crc != crc32(text + TEXT_BODY, length - TEXT_BODY) || !name_valid(from->name) || *seq == 0)
    return CORRUPT;
  if (*size > length || (size_t)used + 1 + *size != length)
    return CORRUPT;
  return DECODED;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// Ends a line, with the time if that is wanted.
static void end_line(double time) {
  if (peer.options.times)
    printf(" %.6f", time);
  printf("\n");
}

static bool enough_received(void) {
  return peer.options.count > 0 && peer.received >= peer.options.count;
}

void peer_received(const char *text, size_t length) {
  struct sender from = {.last = 0};
  unsigned long seq = 0;
  size_t size = 0;
  double arrived = now();
  enum decoded result = decode(text, length, &from, &seq, &size);

  pthread_mutex_lock(&peer.lock);
  if (peer.done)
    result = HELLO;
  struct sender *s = NULL;
  if (result == FOREIGN) {
    printf("foreign %zu\n", length);
  } else if (result == CORRUPT) {
    peer.corrupt++;
    printf("corrupt %zu\n", length);
    pthread_cond_broadcast(&peer.changed);
  } else if (result == DECODED) {
    for (size_t i = 0; i < peer.n_senders && s == NULL; i++)
      if (strcmp(peer.senders[i].name, from.name) == 0)
        s = &peer.senders[i];
    if (s == NULL && peer.n_senders < MAX_SENDERS) {
      s = &peer.senders[peer.n_senders++];
      *s = from;
    }
    if (s == NULL)
      printf("foreign %zu\n", length); // more senders than there is room for
  }
  if (s != NULL) {
    if (s->run != from.run)
      *s = from;
    // A writer's samples arrive in order, so an old number is a duplicate and a gap is a loss.
    if (seq <= s->last) {
      peer.duplicates++;
      printf("duplicate %s %lu %zu\n", from.name, seq, size);
    } else {
      if (s->last > 0)
        peer.lost += seq - s->last - 1;
      s->last = seq;
      peer.received++;
      printf("received %s %lu %zu", from.name, seq, size);
      end_line(arrived);
      pthread_cond_broadcast(&peer.changed);
    }
  }
  pthread_mutex_unlock(&peer.lock);
}

static void update_matched(void) {
  unsigned n;
  if (peer.options.publish && peer.options.subscribe)
    n = peer.readers < peer.writers ? peer.readers : peer.writers;
  else
    n = peer.options.publish ? peer.readers : peer.writers;
  if (n != peer.matched && !peer.done) {
    peer.matched = n;
    printf("matched %u\n", n);
  }
  pthread_cond_broadcast(&peer.changed);
}

void peer_matched_readers(unsigned n) {
  pthread_mutex_lock(&peer.lock);
  peer.readers = n;
  update_matched();
  pthread_mutex_unlock(&peer.lock);
}

void peer_matched_writers(unsigned n) {
  pthread_mutex_lock(&peer.lock);
  peer.writers = n;
  update_matched();
  pthread_mutex_unlock(&peer.lock);
}

// Waits, with the lock held, until something changed or the time `until` has come.
static void wait_until(double until) {
  struct timespec t;
  if (until == INFINITY) {
    pthread_cond_wait(&peer.changed, &peer.lock);
    return;
  }
  t.tv_sec = (time_t)until;
  t.tv_nsec = (long)((until - (double)t.tv_sec) * 1e9);
  pthread_cond_timedwait(&peer.changed, &peer.lock, &t);
}

static void *wait_for_signal(void *set) {
  int sig;
  sigwait(set, &sig);
  pthread_mutex_lock(&peer.lock);
  peer.stopped = true;
  pthread_cond_broadcast(&peer.changed);
  pthread_mutex_unlock(&peer.lock);
  return NULL;
}

// True, with the lock held, when the run must end whatever has been reached.
static bool over(double deadline) { return peer.stopped || peer.corrupt > 0 || now() >= deadline; }

// Sends one text, however often it takes. Called without the lock.
static enum peer_result send_text(const struct peer_vendor *v, const char *text, size_t length, double deadline) {
  enum peer_result r;
  bool end;
  do {
    r = v->write(text, length);
    pthread_mutex_lock(&peer.lock);
    end = over(deadline);
    pthread_mutex_unlock(&peer.lock);
  } while (r == PEER_AGAIN && !end);
  return r;
}

// Waits until every reader has everything. Called without the lock.
static enum peer_result flush(const struct peer_vendor *v, double deadline) {
  enum peer_result r;
  bool end;
  do {
    r = v->wait_acknowledged();
    pthread_mutex_lock(&peer.lock);
    end = over(deadline);
    pthread_mutex_unlock(&peer.lock);
  } while (r == PEER_AGAIN && !end);
  return r;
}

// Waits for the readers, sends the samples and, if reliable, waits for their acknowledgement. Returns PEER_AGAIN when it
// was cut short. `text` is room for one sample.
static enum peer_result publish(const struct peer_vendor *v, char *text, double deadline) {
  const struct peer_options *o = &peer.options;
  pthread_mutex_lock(&peer.lock);
  while (peer.readers < o->match && !over(deadline))
    wait_until(deadline);
  bool end = over(deadline);
  pthread_mutex_unlock(&peer.lock);
  if (end)
    return PEER_AGAIN;

  enum peer_result r = PEER_OK;
  if (o->reliable && o->match > 0) {
    r = send_text(v, TEXT_HELLO, sizeof(TEXT_HELLO) - 1, deadline);
    if (r == PEER_OK)
      r = flush(v, deadline);
  }
  double due = now();
  for (unsigned long seq = 1; r == PEER_OK && (o->count == 0 || seq <= o->count); seq++) {
    pthread_mutex_lock(&peer.lock);
    while (o->rate > 0 && now() < due && !over(deadline))
      wait_until(due < deadline ? due : deadline);
    end = over(deadline);
    pthread_mutex_unlock(&peer.lock);
    if (end)
      return PEER_AGAIN;
    if (o->rate > 0)
      due += 1 / o->rate;
    size_t length = encode(text, o, peer.run, seq);
    double began = now();
    // A camera that could not get rid of a picture does not take all it missed at once.
    if (o->depth > 0 && due < began)
      due = began;
    r = send_text(v, text, length, deadline);
    if (r == PEER_OK) {
      pthread_mutex_lock(&peer.lock);
      peer.sent = seq;
      printf("sent %lu", seq);
      end_line(began);
      pthread_mutex_unlock(&peer.lock);
    }
  }
  if (r == PEER_OK && o->reliable)
    r = flush(v, deadline);
  return r;
}

static int run(const struct peer_vendor *v, char *text) {
  const struct peer_options *o = &peer.options;
  double deadline = o->timeout > 0 ? now() + o->timeout : INFINITY;
  if (v->open(o) != PEER_OK)
    return 1;
  pthread_mutex_lock(&peer.lock);
  printf("ready\n");
  pthread_mutex_unlock(&peer.lock);

  enum peer_result sent = PEER_OK;
  if (o->publish)
    sent = publish(v, text, deadline);
  pthread_mutex_lock(&peer.lock);
  while (o->subscribe && sent == PEER_OK && !enough_received() && !over(deadline))
    wait_until(deadline);
  if (o->subscribe && o->reliable && sent == PEER_OK) {
    double leave = now() + LINGER;
    while (peer.writers > 0 && now() < leave && !over(deadline))
      wait_until(leave);
  }

  peer.done = true;
  if (o->subscribe) {
    printf("done received=%lu lost=%lu duplicates=%lu corrupt=%lu", peer.received, peer.lost, peer.duplicates, peer.corrupt);
    if (o->publish)
      printf(" sent=%lu", peer.sent);
    printf("\n");
  } else {
    printf("done sent=%lu\n", peer.sent);
  }
  bool good = peer.corrupt == 0 && sent != PEER_FAILED &&
              (peer.stopped || o->count == 0 || (sent == PEER_OK && (!o->subscribe || enough_received())));
  if (peer.corrupt > 0)
    fprintf(stderr, "%s: %lu samples arrived with a wrong checksum\n", program, peer.corrupt);
  else if (!good && sent != PEER_FAILED)
    fprintf(stderr, "%s: timed out after %g s: matched %u, sent %lu%s, received %lu, wanted %lu\n", program, o->timeout,
            peer.matched, peer.sent,
            o->publish && o->reliable && peer.sent == o->count ? " (not all acknowledged)" : "", peer.received, o->count);
  pthread_mutex_unlock(&peer.lock);
  return good ? 0 : 1;
}

int peer_main(int argc, char **argv, const struct peer_vendor *vendor) {
  static sigset_t set;
  program = vendor->program;
  if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    usage(stdout);
    return 0;
  }
  if (!parse(argc, argv, &peer.options)) {
    usage(stderr);
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  crc32_init();

  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  peer.run = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;

  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&peer.changed, &attr);
  pthread_mutex_init(&peer.lock, NULL);

  // Blocked before any other thread exists, so that only wait_for_signal gets them. SIGPIPE would end the program
  // half-way when whoever reads the output goes first.
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  signal(SIGPIPE, SIG_IGN);
  pthread_t thread;
  char *text = malloc(PEER_TEXT_MAX);
  if (text == NULL || pthread_create(&thread, NULL, wait_for_signal, &set) != 0) {
    fprintf(stderr, "%s: out of memory or threads\n", program);
    return 1;
  }
  int code = run(vendor, text);
  vendor->close();
  free(text);
  return code;
}
