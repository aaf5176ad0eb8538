// A small DDS program, the same for every vendor: what it sends, counts and prints is in peer.c, and a vendor's file
// supplies the few calls below. Usage, output and exit codes are described by usage() in peer.c.
#ifndef HNET_PEER_H
#define HNET_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PEER_TOPIC "rt/hnet_demo"
#define PEER_TYPE "std_msgs::msg::dds_::String_"
#define PEER_NAME_MAX 32
#define PEER_SIZE_MAX (16 * 1024 * 1024)
// The longest text a sample can carry: the payload and the words in front of it.
#define PEER_TEXT_MAX (PEER_SIZE_MAX + 128)
// Without a depth, samples a reliable writer keeps until every reader has them; when full, writing waits.
#define PEER_HISTORY 64

struct peer_options {
  bool publish, subscribe;
  bool reliable;
  bool times;            // print when samples are sent and received
  unsigned depth;        // keep this many of the last samples, with all else as a ROS node would have it; 0 = as below
  char name[PEER_NAME_MAX + 1];
  unsigned long count;   // 0 = until stopped
  double rate;           // samples per second, 0 = as fast as possible
  size_t size;           // bytes of payload
  unsigned domain;
  unsigned match;        // remote endpoints to wait for before the first sample
  double timeout;        // seconds for the whole run, 0 = none
};

enum peer_result { PEER_OK, PEER_AGAIN, PEER_FAILED };

// What a vendor supplies. Calls come from one thread. A call that fails has written its reason to stderr.
struct peer_vendor {
  const char *program;
  enum peer_result (*open)(const struct peer_options *o);
  // Sends one text. Waits at most a fraction of a second; PEER_AGAIN when the history is still full.
  enum peer_result (*write)(const char *text, size_t length);
  // Waits a fraction of a second for all readers to acknowledge everything; PEER_AGAIN when some have not.
  enum peer_result (*wait_acknowledged)(void);
  // Deletes what open made, also after open failed half-way.
  void (*close)(void);
};

// The whole program: main calls it and returns what it returns.
int peer_main(int argc, char **argv, const struct peer_vendor *vendor);

// A vendor calls these from any thread, when the number of matched endpoints changes and for every text received.
// `text` need not end with a zero byte.
void peer_matched_readers(unsigned n);
void peer_matched_writers(unsigned n);
void peer_received(const char *text, size_t length);

#ifdef __cplusplus
}
#endif
#endif
