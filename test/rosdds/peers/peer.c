// The part of the peers that no vendor's library is needed for.
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

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct peer_options options;
  bool stopped, done;
  unsigned readers, writers, matched;
  unsigned long sent, received, lost, duplicates, corrupt;
  unsigned long answered, unanswered;
  uint64_t last; // sub: highest number received; client: the request that is waited for
  bool waiting;
} peer;

static const char *program;

static void usage(FILE *f) {
  fprintf(f,
    "usage: %s pub|sub|client|server [options]\n"
    "  --name NAME        topic or service, without the slash in front (default chatter or echo)\n"
    "  --reliable         (the default) --best-effort --volatile (the default) --transient-local\n"
    "  --depth N          samples kept (default 10); --keep-all: all\n"
    "  --count N          samples or requests; 0 = until stopped (default 10)\n"
    "  --rate HZ          of them; 0 = as fast as possible (default 10)\n"
    "  --size BYTES,…     of data in each, 0..%d, up to 8 sizes in turns (default 64)\n"
    "  --domain D         DDS domain (default 0)\n"
    "  --match N          remote endpoints to wait for first (default 1)\n"
    "  --stay             pub: do not leave before SIGTERM\n"
    "  --warm             client: begin with requests that do not count until one is answered\n"
    "  --timeout S        seconds for the whole run; 0 = none (default 30)\n"
    "  --reply-timeout S  client: seconds for one answer (default 5)\n"
    "Prints to stdout, one line each:\n"
    "  ready | matched N | sent N | received N SIZE | duplicate N | corrupt N | incompatible POLICY\n"
    "  answered N MILLISECONDS | unanswered N | served N\n"
    "  done sent=S   done received=R lost=L duplicates=D corrupt=C   done answered=A unanswered=U   done served=S\n"
    "Exits 0 when the count is reached (reliable: and acknowledged) and after SIGTERM, 1 with a reason on stderr on a\n"
    "timeout, an error or a wrong checksum, 2 on wrong usage.\n",
    program, PEER_SIZE_MAX);
}

static bool parse_ulong(const char *s, unsigned long max, unsigned long *out) {
  char *end;
  if (*s < '0' || *s > '9')
    return false;
  errno = 0;
  *out = strtoul(s, &end, 10);
  return errno == 0 && *end == 0 && *out <= max;
}

static bool parse_double(const char *s, double *out) {
  char *end;
  *out = strtod(s, &end);
  return end != s && *end == 0 && isfinite(*out) && *out >= 0;
}

static bool parse_sizes(const char *s, struct peer_options *o) {
  o->size = o->sizes_count = 0;
  while (o->sizes_count < PEER_SIZES_MAX) {
    char one[16];
    size_t length = strcspn(s, ",");
    unsigned long n;
    if (length >= sizeof(one))
      return false;
    memcpy(one, s, length);
    one[length] = 0;
    if (!parse_ulong(one, PEER_SIZE_MAX, &n))
      return false;
    o->sizes[o->sizes_count++] = n;
    if (n > o->size)
      o->size = n;
    if (s[length] == 0)
      return true;
    s += length + 1;
  }
  return false;
}

// The size of sample n, from 1.
static size_t size_of(const struct peer_options *o, uint64_t n) { return o->sizes[(n - 1) % o->sizes_count]; }

static bool parse(int argc, char **argv, struct peer_options *o) {
  *o = (struct peer_options){.reliable = true, .depth = 10, .count = 10, .rate = 10, .size = 64, .sizes = {64}, .sizes_count = 1, .match = 1, .timeout = 30, .reply_timeout = 5};
  static const char *const modes[] = {"pub", "sub", "client", "server"};
  unsigned mode = 0;
  while (mode < 4 && (argc < 2 || strcmp(argv[1], modes[mode]) != 0))
    mode++;
  if (mode == 4)
    return false;
  o->mode = (enum peer_mode)mode;
  const char *name = o->mode >= PEER_CLIENT ? "echo" : "chatter";
  for (int i = 2; i < argc; i++) {
    const char *flag = argv[i];
    bool ok = true;
    unsigned long n = 0;
    if (strcmp(flag, "--reliable") == 0) {
      o->reliable = true;
    } else if (strcmp(flag, "--best-effort") == 0) {
      o->reliable = false;
    } else if (strcmp(flag, "--volatile") == 0) {
      o->transient_local = false;
    } else if (strcmp(flag, "--transient-local") == 0) {
      o->transient_local = true;
    } else if (strcmp(flag, "--keep-all") == 0) {
      o->keep_all = true;
    } else if (strcmp(flag, "--stay") == 0) {
      o->stay = true;
    } else if (strcmp(flag, "--warm") == 0) {
      o->warm = true;
    } else {
      const char *value = i + 1 < argc ? argv[++i] : "";
      if (strcmp(flag, "--name") == 0) {
        ok = *value != 0 && strlen(value) <= PEER_NAME_MAX;
        name = value;
      } else if (strcmp(flag, "--depth") == 0) {
        ok = parse_ulong(value, 100000, &o->depth) && o->depth > 0;
      } else if (strcmp(flag, "--count") == 0) {
        ok = parse_ulong(value, 1000000000, &o->count);
      } else if (strcmp(flag, "--rate") == 0) {
        ok = parse_double(value, &o->rate);
      } else if (strcmp(flag, "--size") == 0) {
        ok = parse_sizes(value, o);
      } else if (strcmp(flag, "--domain") == 0) {
        ok = parse_ulong(value, 232, &n);
        o->domain = (unsigned)n;
      } else if (strcmp(flag, "--match") == 0) {
        ok = parse_ulong(value, 1000, &n);
        o->match = (unsigned)n;
      } else if (strcmp(flag, "--timeout") == 0) {
        ok = parse_double(value, &o->timeout);
      } else if (strcmp(flag, "--reply-timeout") == 0) {
        ok = parse_double(value, &o->reply_timeout);
      } else {
        ok = false;
      }
    }
    if (!ok) {
      fprintf(stderr, "%s: bad option or value: %s\n", program, flag);
      return false;
    }
  }
  snprintf(o->topic, sizeof(o->topic), "rt/%s", name);
  snprintf(o->request, sizeof(o->request), "rq/%sRequest", name);
  snprintf(o->reply, sizeof(o->reply), "rr/%sReply", name);
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

static uint32_t crc32(const uint8_t *data, size_t n) {
  uint32_t c = 0xffffffffu;
  for (size_t i = 0; i < n; i++)
    c = crc32_table[(c ^ data[i]) & 0xff] ^ (c >> 8);
  return c ^ 0xffffffffu;
}

// The data of sample n: the bytes of a generator that begins with n.
static struct peer_sample sample(uint8_t *data, size_t size, uint64_t number) {
  uint64_t x = number * 0x9e3779b97f4a7c15u ^ 1;
  for (size_t i = 0; i < size; i++) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    data[i] = (uint8_t)(x >> 33);
  }
  return (struct peer_sample){number, crc32(data, size), data, size};
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

bool peer_received(const struct peer_sample *s) {
  bool good = s->crc == crc32(s->data, s->size);
  pthread_mutex_lock(&peer.lock);
  if (peer.done) {
    good = false;
  } else if (!good) {
    peer.corrupt++;
    printf("corrupt %" PRIu64 "\n", s->number);
  } else if (peer.options.mode == PEER_SERVER) {
    peer.received++;
    printf("served %" PRIu64 "\n", s->number);
  } else if (peer.options.mode == PEER_CLIENT) {
    if (peer.waiting && s->number == peer.last && (s->number == 0 || s->size == size_of(&peer.options, s->number))) {
      peer.waiting = false;
    } else if (s->number != 0) {
      peer.duplicates++;
      printf("duplicate %" PRIu64 "\n", s->number);
    }
  } else if (s->number == 0) {
    // The word before the first sample: see publish().
  } else if (s->number <= peer.last) {
    peer.duplicates++;
    printf("duplicate %" PRIu64 "\n", s->number);
  } else {
    if (peer.last > 0)
      peer.lost += s->number - peer.last - 1;
    peer.last = s->number;
    peer.received++;
    printf("received %" PRIu64 " %zu\n", s->number, s->size);
  }
  pthread_cond_broadcast(&peer.changed);
  pthread_mutex_unlock(&peer.lock);
  return good;
}

void peer_incompatible(unsigned policy) {
  pthread_mutex_lock(&peer.lock);
  if (!peer.done)
    printf("incompatible %u\n", policy);
  pthread_mutex_unlock(&peer.lock);
}

static void update_matched(void) {
  unsigned n = peer.readers;
  if (peer.options.mode == PEER_SUB || (peer.options.mode != PEER_PUB && peer.writers < n))
    n = peer.writers;
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

static bool ended(double deadline) {
  pthread_mutex_lock(&peer.lock);
  bool end = over(deadline);
  pthread_mutex_unlock(&peer.lock);
  return end;
}

static enum peer_result send_one(const struct peer_vendor *v, const struct peer_sample *s, double deadline) {
  enum peer_result r;
  do
    r = v->write(s);
  while (r == PEER_AGAIN && !ended(deadline));
  return r;
}

static enum peer_result flush(const struct peer_vendor *v, double deadline) {
  enum peer_result r;
  do
    r = v->wait_acknowledged();
  while (r == PEER_AGAIN && !ended(deadline));
  return r;
}

// Waits for the next moment of the rate; false when the run is over.
static bool pace(double *due, double deadline) {
  const struct peer_options *o = &peer.options;
  pthread_mutex_lock(&peer.lock);
  while (o->rate > 0 && now() < *due && !over(deadline))
    wait_until(*due < deadline ? *due : deadline);
  bool end = over(deadline);
  pthread_mutex_unlock(&peer.lock);
  if (o->rate > 0)
    *due += 1 / o->rate;
  return !end;
}

// Sends what is to be sent. PEER_AGAIN when it was cut short.
static enum peer_result publish(const struct peer_vendor *v, uint8_t *data, double deadline) {
  const struct peer_options *o = &peer.options;
  pthread_mutex_lock(&peer.lock);
  while (peer.matched < o->match && !over(deadline))
    wait_until(deadline);
  bool end = over(deadline);
  pthread_mutex_unlock(&peer.lock);
  if (end)
    return PEER_AGAIN;

  enum peer_result r = PEER_OK;
  if (o->mode == PEER_PUB && o->reliable && o->match > 0) {
    // A reader that the writer knows may not know the writer yet, and a volatile one never asks for what came before.
    // It acknowledges only what it knows: after this nothing can be missed.
    struct peer_sample hello = sample(data, 0, 0);
    r = send_one(v, &hello, deadline);
    if (r == PEER_OK)
      r = flush(v, deadline);
  }
  // Request 0 until it is answered.
  pthread_mutex_lock(&peer.lock);
  peer.last = 0;
  peer.waiting = o->mode == PEER_CLIENT && o->warm;
  while (r == PEER_OK && peer.waiting && !over(deadline)) {
    pthread_mutex_unlock(&peer.lock);
    struct peer_sample hello = sample(data, 0, 0);
    r = send_one(v, &hello, deadline);
    double until = now() + 1;
    pthread_mutex_lock(&peer.lock);
    while (peer.waiting && now() < until && !over(deadline))
      wait_until(until);
  }
  pthread_mutex_unlock(&peer.lock);
  double due = now();
  for (unsigned long n = 1; r == PEER_OK && (o->count == 0 || n <= o->count); n++) {
    if (!pace(&due, deadline))
      return PEER_AGAIN;
    struct peer_sample s = sample(data, size_of(o, n), n);
    double start = now();
    pthread_mutex_lock(&peer.lock);
    peer.waiting = true;
    if (o->mode == PEER_CLIENT)
      peer.last = n;
    pthread_mutex_unlock(&peer.lock);
    r = send_one(v, &s, deadline);
    pthread_mutex_lock(&peer.lock);
    if (r == PEER_OK) {
      peer.sent = n;
      if (o->mode == PEER_PUB)
        printf("sent %lu\n", n);
    }
    if (r == PEER_OK && o->mode == PEER_CLIENT) {
      double until = start + o->reply_timeout < deadline ? start + o->reply_timeout : deadline;
      while (peer.waiting && !peer.stopped && now() < until)
        wait_until(until);
      if (peer.waiting) {
        peer.unanswered++;
        printf("unanswered %lu\n", n);
      } else {
        peer.answered++;
        printf("answered %lu %.1f\n", n, (now() - start) * 1000);
      }
    }
    pthread_mutex_unlock(&peer.lock);
  }
  if (r == PEER_OK && o->mode == PEER_PUB && o->reliable)
    r = flush(v, deadline);
  return r;
}

static int run(const struct peer_vendor *v, uint8_t *data) {
  const struct peer_options *o = &peer.options;
  double deadline = o->timeout > 0 ? now() + o->timeout : INFINITY;
  if (v->open(o) != PEER_OK)
    return 1;
  pthread_mutex_lock(&peer.lock);
  printf("ready\n");
  pthread_mutex_unlock(&peer.lock);

  enum peer_result sent = PEER_OK;
  if (o->mode == PEER_PUB || o->mode == PEER_CLIENT)
    sent = publish(v, data, deadline);
  pthread_mutex_lock(&peer.lock);
  bool stay = o->mode == PEER_SERVER || o->stay;
  while ((stay || (o->mode == PEER_SUB && (o->count == 0 || peer.received < o->count))) && sent == PEER_OK && !over(deadline))
    wait_until(deadline);
  if (o->mode == PEER_SUB && o->reliable) {
    // The writers leave first, so that the last acknowledgements arrive.
    double leave = now() + 1;
    while (peer.writers > 0 && now() < leave && !over(deadline))
      wait_until(leave);
  }
  peer.done = true;
  bool reached = true;
  switch (o->mode) {
  case PEER_PUB:
    printf("done sent=%lu\n", peer.sent);
    break;
  case PEER_SUB:
    printf("done received=%lu lost=%lu duplicates=%lu corrupt=%lu\n", peer.received, peer.lost, peer.duplicates, peer.corrupt);
    reached = o->count == 0 || peer.received >= o->count;
    break;
  case PEER_CLIENT:
    printf("done answered=%lu unanswered=%lu\n", peer.answered, peer.unanswered);
    reached = peer.unanswered == 0 && peer.duplicates == 0;
    break;
  case PEER_SERVER:
    printf("done served=%lu\n", peer.received);
    break;
  }
  bool good = peer.corrupt == 0 && sent != PEER_FAILED && (peer.stopped || (sent == PEER_OK && reached));
  if (!good)
    fprintf(stderr, "%s: not everything was reached: matched %u, sent %lu, received %lu, answered %lu, corrupt %lu\n", program,
            peer.matched, peer.sent, peer.received, peer.answered, peer.corrupt);
  pthread_mutex_unlock(&peer.lock);
  return good ? 0 : 1;
}

int peer_main(int argc, char **argv, const struct peer_vendor *vendor) {
  static sigset_t set;
  program = vendor->program;
  if (!parse(argc, argv, &peer.options)) {
    usage(stderr);
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  crc32_init();
  pthread_mutex_init(&peer.lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&peer.changed, &attr);
  // Before the library starts its threads, so that none of them takes a signal.
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  pthread_t thread;
  pthread_create(&thread, NULL, wait_for_signal, &set);

  uint8_t *data = malloc(peer.options.size + 1);
  int code = data == NULL ? 1 : run(vendor, data);
  vendor->close();
  free(data);
  return code;
}
