// The raw program on Eclipse Cyclone DDS. It knows the types of hnet.idl, and shows only what is valid for them.
#include "hnet.h"
#include "raw.h"

#include <dds/dds.h>
#include <dds/ddsi/ddsi_serdata.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const dds_topic_descriptor_t *const types[] = {
  &hnet_bridge_msg_dds__PeerArray__desc,
  &hnet_bridge_srv_dds__WhitelistAdd_Request__desc,
  &hnet_bridge_srv_dds__WhitelistAdd_Response__desc,
  &hnet_bridge_srv_dds__WhitelistList_Request__desc,
  &hnet_bridge_srv_dds__WhitelistList_Response__desc,
  &rmw_dds_common_msg_dds__ParticipantEntitiesInfo__desc,
};

// All requests begin so in memory.
struct request {
  uint64_t guid;
  int64_t seq;
  char *fields[RAW_FIELDS_MAX];
};

static const struct raw_options *options;
static dds_entity_t participant, writer;
static struct request request;

static bool made(const char *what, dds_entity_t e) {
  if (e < 0)
    fprintf(stderr, "raw_cyclone: cannot create %s: %s\n", what, dds_strretcode(e));
  return e >= 0;
}

static void on_readers(dds_entity_t w, const dds_publication_matched_status_t status, void *arg) {
  (void)w, (void)arg;
  raw_matched(false, status.current_count);
}

static void on_writers(dds_entity_t r, const dds_subscription_matched_status_t status, void *arg) {
  (void)r, (void)arg;
  raw_matched(true, status.current_count);
}

static void show(struct ddsi_serdata *data) {
  static uint8_t payload[RAW_SIZE_MAX];
  const uint32_t size = ddsi_serdata_size(data);
  if (size > sizeof(payload)) {
    fprintf(stderr, "raw_cyclone: a sample is too large: %u\n", size);
    return;
  }
  ddsi_serdata_to_ser(data, 0, size, payload);
  // A service's header is behind the encapsulation.
  if (!options->call || (size >= 20 && memcmp(payload + 4, &request.guid, 8) == 0 && memcmp(payload + 12, &request.seq, 8) == 0))
    raw_arrived(payload, size);
}

static void on_data(dds_entity_t reader, void *arg) {
  (void)arg;
  struct ddsi_serdata *taken;
  dds_sample_info_t info;
  while (dds_takecdr(reader, &taken, 1, &info, DDS_ANY_STATE) == 1) {
    if (info.valid_data)
      show(taken);
    ddsi_serdata_unref(taken);
  }
}

static dds_entity_t topic(const char *name, const char *type) {
  const dds_topic_descriptor_t *found = NULL;
  for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
    if (strcmp(types[i]->m_typename, type) == 0)
      found = types[i];
  if (found == NULL) {
    fprintf(stderr, "raw_cyclone: type %s is not known\n", type);
    return -1;
  }
  // Who does not announce a type's hash is of Humble, where this type has another layout.
  if (found == &rmw_dds_common_msg_dds__ParticipantEntitiesInfo__desc && strstr(options->user_data, "typehash=") == NULL)
    found = &rmw_dds_common_humble_msg_dds__ParticipantEntitiesInfo__desc;
  dds_topic_descriptor_t named = *found;
  named.m_typename = type;
  const dds_entity_t t = dds_create_topic(participant, &named, name, NULL, NULL);
  made("the topic", t);
  return t;
}

static bool open_raw(const struct raw_options *o) {
  options = o;
  if (!made("the participant (is CYCLONEDDS_URI right?)", participant = dds_create_participant(0, NULL, NULL)))
    return false;
  dds_guid_t guid;
  dds_get_guid(participant, &guid);
  memcpy(&request.guid, guid.v, sizeof(request.guid));
  request.guid ^= (uint64_t)time(NULL);
  for (unsigned i = 0; i < o->n_fields; i++)
    request.fields[i] = o->fields[i];
  dds_qos_t *qos = dds_create_qos();
  dds_qset_reliability(qos, DDS_RELIABILITY_RELIABLE, DDS_SECS(1));
  dds_qset_durability(qos, o->transient_local ? DDS_DURABILITY_TRANSIENT_LOCAL : DDS_DURABILITY_VOLATILE);
  dds_qset_history(qos, DDS_HISTORY_KEEP_LAST, (int32_t)o->depth);
  if (o->user_data[0] != 0)
    dds_qset_userdata(qos, o->user_data, strlen(o->user_data));
  dds_listener_t *l = dds_create_listener(NULL);
  dds_lset_data_available(l, on_data);
  dds_lset_subscription_matched(l, on_writers);
  dds_lset_publication_matched(l, on_readers);
  bool ok = true;
  dds_entity_t t = 0;
  if (o->call) {
    ok = (t = topic(o->out_topic, o->out_type)) >= 0 && made("the writer", writer = dds_create_writer(participant, t, qos, l));
  }
  ok = ok && (t = topic(o->in_topic, o->in_type)) >= 0 && made("the reader", dds_create_reader(participant, t, qos, l));
  dds_delete_listener(l);
  dds_delete_qos(qos);
  return ok;
}

static bool ask(void) {
  request.seq++;
  const dds_return_t rc = dds_write(writer, &request);
  if (rc != DDS_RETCODE_OK)
    fprintf(stderr, "raw_cyclone: request: %s\n", dds_strretcode(rc));
  return rc == DDS_RETCODE_OK;
}

static void close_raw(void) { dds_delete(participant); }

int main(int argc, char **argv) {
  static const struct raw_vendor vendor = {"raw_cyclone", open_raw, ask, close_raw};
  return raw_main(argc, argv, &vendor);
}
