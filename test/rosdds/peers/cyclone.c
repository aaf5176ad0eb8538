// The peer on Eclipse Cyclone DDS, with services as rmw_cyclonedds_cpp maps them: a header in the payload.
#include "peer.h"
#include "rosdds.h"

#include <dds/dds.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef rosdds_msg_dds__Sample_ message;
// Both halves of a service are the same in memory.
typedef rosdds_srv_dds__Echo_Request_ call;

static const struct peer_options *options;
static dds_entity_t participant, writer;
static uint64_t client;
static int64_t sequence;

static bool made(const char *what, dds_entity_t e) {
  if (e < 0)
    fprintf(stderr, "cyclone: cannot create %s: %s\n", what, dds_strretcode(e));
  return e >= 0;
}

static void on_readers(dds_entity_t w, const dds_publication_matched_status_t status, void *arg) {
  (void)w, (void)arg;
  peer_matched_readers(status.current_count);
}

static void on_writers(dds_entity_t r, const dds_subscription_matched_status_t status, void *arg) {
  (void)r, (void)arg;
  peer_matched_writers(status.current_count);
}

static void on_offered(dds_entity_t w, const dds_offered_incompatible_qos_status_t status, void *arg) {
  (void)w, (void)arg;
  peer_incompatible(status.last_policy_id);
}

static void on_requested(dds_entity_t r, const dds_requested_incompatible_qos_status_t status, void *arg) {
  (void)r, (void)arg;
  peer_incompatible(status.last_policy_id);
}

static void on_data(dds_entity_t reader, void *arg) {
  (void)arg;
  void *taken = NULL;
  dds_sample_info_t info;
  while (dds_take(reader, &taken, &info, 1, 1) == 1) {
    if (info.valid_data && options->mode == PEER_SUB) {
      const message *m = taken;
      peer_received(&(struct peer_sample){m->number, m->crc, m->data._buffer, m->data._length});
    } else if (info.valid_data) {
      call *c = taken;
      struct peer_sample s = {c->number, c->crc, c->data._buffer, c->data._length};
      if (options->mode == PEER_SERVER) {
        dds_return_t rc;
        // The header goes back as it came.
        if (peer_received(&s) && (rc = dds_write(writer, c)) != DDS_RETCODE_OK)
          fprintf(stderr, "cyclone: answer: %s\n", dds_strretcode(rc));
      } else if (c->guid == client) {
        peer_received(&s);
      }
    }
    dds_return_loan(reader, &taken, 1);
    taken = NULL;
  }
}

static enum peer_result open_peer(const struct peer_options *o) {
  options = o;
  if (!made("the participant (is CYCLONEDDS_URI right?)", participant = dds_create_participant(o->domain, NULL, NULL)))
    return PEER_FAILED;
  dds_guid_t guid;
  dds_get_guid(participant, &guid);
  memcpy(&client, guid.v, sizeof(client));
  client ^= (uint64_t)time(NULL);

  const dds_topic_descriptor_t *in = NULL, *out = NULL;
  const char *in_topic = o->topic, *out_topic = o->topic;
  switch (o->mode) {
  case PEER_PUB:
    out = &rosdds_msg_dds__Sample__desc;
    break;
  case PEER_SUB:
    in = &rosdds_msg_dds__Sample__desc;
    break;
  case PEER_CLIENT:
    out = &rosdds_srv_dds__Echo_Request__desc, in = &rosdds_srv_dds__Echo_Response__desc;
    out_topic = o->request, in_topic = o->reply;
    break;
  case PEER_SERVER:
    in = &rosdds_srv_dds__Echo_Request__desc, out = &rosdds_srv_dds__Echo_Response__desc;
    in_topic = o->request, out_topic = o->reply;
    break;
  }
  dds_qos_t *qos = dds_create_qos();
  dds_qset_reliability(qos, o->reliable ? DDS_RELIABILITY_RELIABLE : DDS_RELIABILITY_BEST_EFFORT, DDS_MSECS(200));
  dds_qset_durability(qos, o->transient_local ? DDS_DURABILITY_TRANSIENT_LOCAL : DDS_DURABILITY_VOLATILE);
  dds_qset_history(qos, o->keep_all ? DDS_HISTORY_KEEP_ALL : DDS_HISTORY_KEEP_LAST, (int32_t)o->depth);
  dds_qset_durability_service(qos, 0, o->keep_all ? DDS_HISTORY_KEEP_ALL : DDS_HISTORY_KEEP_LAST, (int32_t)o->depth, DDS_LENGTH_UNLIMITED,
                              DDS_LENGTH_UNLIMITED, DDS_LENGTH_UNLIMITED);
  bool ok = true;
  // The writer first: a request must find it.
  if (out != NULL) {
    dds_listener_t *l = dds_create_listener(NULL);
    dds_lset_publication_matched(l, on_readers);
    dds_lset_offered_incompatible_qos(l, on_offered);
    dds_entity_t topic = dds_create_topic(participant, out, out_topic, NULL, NULL);
    ok = made("the topic", topic) && made("the writer", writer = dds_create_writer(participant, topic, qos, l));
    dds_delete_listener(l);
  }
  if (ok && in != NULL) {
    dds_listener_t *l = dds_create_listener(NULL);
    dds_lset_data_available(l, on_data);
    dds_lset_subscription_matched(l, on_writers);
    dds_lset_requested_incompatible_qos(l, on_requested);
    dds_entity_t topic = dds_create_topic(participant, in, in_topic, NULL, NULL);
    ok = made("the topic", topic) && made("the reader", dds_create_reader(participant, topic, qos, l));
    dds_delete_listener(l);
  }
  dds_delete_qos(qos);
  return ok ? PEER_OK : PEER_FAILED;
}

static enum peer_result done(const char *what, dds_return_t rc) {
  if (rc == DDS_RETCODE_OK)
    return PEER_OK;
  if (rc == DDS_RETCODE_TIMEOUT)
    return PEER_AGAIN;
  fprintf(stderr, "cyclone: %s: %s\n", what, dds_strretcode(rc));
  return PEER_FAILED;
}

static enum peer_result write_sample(const struct peer_sample *s) {
  if (options->mode == PEER_PUB) {
    message m = {.number = s->number, .crc = s->crc, .data = {(uint32_t)s->size, (uint32_t)s->size, (uint8_t *)s->data, false}};
    return done("write", dds_write(writer, &m));
  }
  call c = {.guid = client, .seq = ++sequence, .number = s->number, .crc = s->crc, .data = {(uint32_t)s->size, (uint32_t)s->size, (uint8_t *)s->data, false}};
  return done("request", dds_write(writer, &c));
}

static enum peer_result wait_acknowledged(void) { return done("waiting for acknowledgements", dds_wait_for_acks(writer, DDS_MSECS(200))); }

static void close_peer(void) {
  if (participant > 0)
    dds_delete(participant);
}

int main(int argc, char **argv) {
  static const struct peer_vendor vendor = {"cyclone", open_peer, write_sample, wait_acknowledged, close_peer};
  return peer_main(argc, argv, &vendor);
}
