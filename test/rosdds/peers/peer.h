// A small DDS program that speaks the ROS 2 mapping, the same for every vendor: what it does and prints is in peer.c, and
// a vendor's file supplies the few calls below. Usage, output and exit codes are described by usage() in peer.c.
#ifndef HNET_ROSDDS_PEER_H
#define HNET_ROSDDS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PEER_MESSAGE_TYPE "rosdds::msg::dds_::Sample_"
#define PEER_REQUEST_TYPE "rosdds::srv::dds_::Echo_Request_"
#define PEER_RESPONSE_TYPE "rosdds::srv::dds_::Echo_Response_"
#define PEER_NAME_MAX 200
#define PEER_SIZE_MAX (4 * 1024 * 1024)
#define PEER_SIZES_MAX 8

enum peer_mode { PEER_PUB, PEER_SUB, PEER_CLIENT, PEER_SERVER };

struct peer_options {
  enum peer_mode mode;
  char topic[PEER_NAME_MAX + 16];  // pub, sub: of DDS, with rt/
  char request[PEER_NAME_MAX + 16]; // client, server: of DDS, rq/…Request
  char reply[PEER_NAME_MAX + 16];   // rr/…Reply
  bool reliable, transient_local, keep_all;
  unsigned long depth;
  unsigned domain;
  unsigned long count;
  double rate, timeout, reply_timeout;
  size_t size; // the longest
  size_t sizes[PEER_SIZES_MAX];
  unsigned sizes_count;
  unsigned match;
  bool stay, warm;
};

enum peer_result { PEER_OK, PEER_AGAIN, PEER_FAILED };

// One sample, request or response. `data` belongs to the caller.
struct peer_sample {
  uint64_t number;
  uint32_t crc;
  const uint8_t *data;
  size_t size;
};

// What a vendor supplies. Calls come from one thread. A call that fails has written its reason to stderr.
struct peer_vendor {
  const char *program;
  enum peer_result (*open)(const struct peer_options *o);
  // Sends a sample (pub) or a request (client). Waits at most a fraction of a second; PEER_AGAIN when there is no room.
  enum peer_result (*write)(const struct peer_sample *s);
  // Waits a fraction of a second for all readers to acknowledge everything; PEER_AGAIN when some have not.
  enum peer_result (*wait_acknowledged)(void);
  void (*close)(void);
};

int peer_main(int argc, char **argv, const struct peer_vendor *vendor);

// A vendor calls these from any thread: when the number of matched remote endpoints changes, for each of the two of a
// service or for both with one number; for what arrives, which for a server is to be answered with the same (true) or not
// (false); and when a policy keeps a remote endpoint away, by the policy's number in DDS.
void peer_matched_readers(unsigned n);
void peer_matched_writers(unsigned n);
bool peer_received(const struct peer_sample *s);
void peer_incompatible(unsigned policy);

#ifdef __cplusplus
}
#endif
#endif
