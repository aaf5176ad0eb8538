// A small DDS program that shows what crosses the wire, byte by byte: a subscription to any topic, and a client of services
// whose requests are strings. What it does and prints is in raw.c, and a vendor's file supplies the calls below.
#ifndef HNET_ROSDDS_RAW_H
#define HNET_ROSDDS_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RAW_NAME_MAX 256
#define RAW_FIELDS_MAX 2
#define RAW_SIZE_MAX (64 * 1024)

struct raw_options {
  bool call;                                           // a client, not a subscription
  char in_topic[RAW_NAME_MAX], in_type[RAW_NAME_MAX];   // names in DDS
  char out_topic[RAW_NAME_MAX], out_type[RAW_NAME_MAX]; // call: of requests
  const char *user_data;                               // of all endpoints
  bool transient_local;
  unsigned depth;
  char *const *fields; // call: of the request, strings
  unsigned n_fields;
  unsigned count;
  double timeout;
};

struct raw_vendor {
  const char *program;
  bool (*open)(const struct raw_options *o);
  bool (*ask)(void);
  void (*close)(void);
};

int raw_main(int argc, char **argv, const struct raw_vendor *vendor);

// A vendor calls these from any thread: with the number of endpoints that match the reader, or the writer; and with what
// arrives, encapsulation included. Of what comes for a client that is the reply to it alone.
void raw_matched(bool reader, unsigned n);
void raw_arrived(const uint8_t *payload, size_t size);

#ifdef __cplusplus
}
#endif
#endif
