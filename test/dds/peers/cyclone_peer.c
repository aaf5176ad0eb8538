// The demo peer on Eclipse Cyclone DDS.
#include "peer.h"
#include "std_string.h"

#include <dds/dds.h>
#include <stdio.h>
#include <string.h>

static dds_entity_t participant, writer;

static bool made(const char *what, dds_entity_t e) {
  if (e < 0)
    fprintf(stderr, "cyclone_peer: cannot create %s: %s\n", what, dds_strretcode(e));
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

static void on_data(dds_entity_t reader, void *arg) {
  (void)arg;
  void *sample = NULL;
  dds_sample_info_t info;
  while (dds_take(reader, &sample, &info, 1, 1) == 1) {
    if (info.valid_data) {
      const char *data = ((std_msgs_msg_dds__String_ *)sample)->data;
      peer_received(data, strlen(data));
    }
    dds_return_loan(reader, &sample, 1);
    sample = NULL;
  }
}

static enum peer_result open_peer(const struct peer_options *o) {
  if (!made("the participant (is CYCLONEDDS_URI right, is the interface up?)", participant = dds_create_participant(o->domain, NULL, NULL)))
    return PEER_FAILED;
  dds_entity_t topic = dds_create_topic(participant, &std_msgs_msg_dds__String__desc, PEER_TOPIC, NULL, NULL);
  if (!made("the topic", topic))
    return PEER_FAILED;

  dds_qos_t *qos = dds_create_qos();
  dds_qset_reliability(qos, o->reliable ? DDS_RELIABILITY_RELIABLE : DDS_RELIABILITY_BEST_EFFORT, DDS_MSECS(200));
  dds_qset_durability(qos, DDS_DURABILITY_VOLATILE);
  if (o->depth > 0)
    dds_qset_history(qos, DDS_HISTORY_KEEP_LAST, (int32_t)o->depth);
  else
    dds_qset_history(qos, o->reliable ? DDS_HISTORY_KEEP_ALL : DDS_HISTORY_KEEP_LAST, PEER_HISTORY);
  dds_qset_ignorelocal(qos, DDS_IGNORELOCAL_PARTICIPANT);
  bool ok = true;
  if (o->subscribe) {
    dds_listener_t *l = dds_create_listener(NULL);
    dds_lset_data_available(l, on_data);
    dds_lset_subscription_matched(l, on_writers);
    ok = made("the reader", dds_create_reader(participant, topic, qos, l));
    dds_delete_listener(l);
  }
  if (ok && o->publish) {
    dds_listener_t *l = dds_create_listener(NULL);
    dds_lset_publication_matched(l, on_readers);
    if (o->reliable && o->depth == 0)
      dds_qset_resource_limits(qos, PEER_HISTORY, DDS_LENGTH_UNLIMITED, DDS_LENGTH_UNLIMITED);
    ok = made("the writer", writer = dds_create_writer(participant, topic, qos, l));
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
  fprintf(stderr, "cyclone_peer: %s: %s\n", what, dds_strretcode(rc));
  return PEER_FAILED;
}

static enum peer_result write_text(const char *text, size_t length) {
  (void)length;
  std_msgs_msg_dds__String_ sample = {.data = (char *)text};
  return done("write", dds_write(writer, &sample));
}

static enum peer_result wait_acknowledged(void) { return done("waiting for acknowledgements", dds_wait_for_acks(writer, DDS_MSECS(200))); }

static void close_peer(void) {
  if (participant > 0)
    dds_delete(participant);
}

int main(int argc, char **argv) {
  static const struct peer_vendor vendor = {"cyclone_peer", open_peer, write_text, wait_acknowledged, close_peer};
  return peer_main(argc, argv, &vendor);
}
