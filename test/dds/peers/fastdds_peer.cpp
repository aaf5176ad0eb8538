// The demo peer on eProsima Fast DDS.
#include "peer.h"

#include <fastdds/dds/domain/DomainParticipant.hpp>
#include <fastdds/dds/domain/DomainParticipantFactory.hpp>
#include <fastdds/dds/log/Log.hpp>
#include <fastdds/dds/publisher/DataWriter.hpp>
#include <fastdds/dds/publisher/DataWriterListener.hpp>
#include <fastdds/dds/publisher/Publisher.hpp>
#include <fastdds/dds/subscriber/DataReader.hpp>
#include <fastdds/dds/subscriber/DataReaderListener.hpp>
#include <fastdds/dds/subscriber/SampleInfo.hpp>
#include <fastdds/dds/subscriber/Subscriber.hpp>
#include <fastdds/dds/topic/TopicDataType.hpp>
#include <fastdds/dds/topic/TypeSupport.hpp>

#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>

using namespace eprosima::fastdds::dds;

// Fast DDS 3 renamed much of what version 2 has.
#if __has_include(<fastdds/config.hpp>)
#define FAST3 1
namespace rtps = eprosima::fastdds::rtps;
static const ReturnCode_t code_ok = RETCODE_OK, code_timeout = RETCODE_TIMEOUT;
static unsigned code_of(ReturnCode_t rc) { return static_cast<unsigned>(rc); }
#else
#define FAST3 0
namespace rtps = eprosima::fastrtps::rtps;
using eprosima::fastrtps::Duration_t;
using eprosima::fastrtps::types::ReturnCode_t;
static const ReturnCode_t code_ok = ReturnCode_t::RETCODE_OK, code_timeout = ReturnCode_t::RETCODE_TIMEOUT;
static unsigned code_of(const ReturnCode_t& rc) { return rc(); }
#endif
using rtps::iHandle2GUID;
using rtps::InstanceHandle_t;
using rtps::SerializedPayload_t;

namespace {

// std_msgs/msg/String: one string, keyless. In plain CDR that is a header of 4 bytes (the second one is 0 for big and 1 for
// little endian), the length in 4 bytes, the characters and a zero byte, which the length includes.
class StringType : public TopicDataType {
public:
#if FAST3
    StringType()
    {
        set_name(PEER_TYPE);
        max_serialized_type_size = PEER_TEXT_MAX + overhead;
        is_compute_key_provided = false;
    }

    bool serialize(const void* const data, SerializedPayload_t& payload, DataRepresentationId_t) override { return put(data, payload); }
    bool deserialize(SerializedPayload_t& payload, void* data) override { return get(payload, data); }
    uint32_t calculate_serialized_size(const void* const data, DataRepresentationId_t) override { return size(data); }
    void* create_data() override { return new std::string(); }
    void delete_data(void* data) override { delete static_cast<std::string*>(data); }
    bool compute_key(SerializedPayload_t&, InstanceHandle_t&, bool) override { return false; }
    bool compute_key(const void* const, InstanceHandle_t&, bool) override { return false; }
#else
    StringType()
    {
        setName(PEER_TYPE);
        m_typeSize = PEER_TEXT_MAX + overhead;
        m_isGetKeyDefined = false;
        auto_fill_type_object(false);
        auto_fill_type_information(false);
    }

    bool serialize(void* data, SerializedPayload_t* payload) override { return put(data, *payload); }
    bool deserialize(SerializedPayload_t* payload, void* data) override { return get(*payload, data); }
    std::function<uint32_t()> getSerializedSizeProvider(void* data) override { return [data]() { return size(data); }; }
    void* createData() override { return new std::string(); }
    void deleteData(void* data) override { delete static_cast<std::string*>(data); }
    bool getKey(void*, InstanceHandle_t*, bool) override { return false; }
#endif

private:
    static bool put(const void* data, SerializedPayload_t& payload)
    {
        const std::string& text = *static_cast<const std::string*>(data);
        const uint32_t length = static_cast<uint32_t>(text.size()) + 1;
        if (payload.max_size < text.size() + overhead)
        {
            return false;
        }
        const unsigned char head[8] = {0, 1, 0, 0, static_cast<unsigned char>(length),
                                       static_cast<unsigned char>(length >> 8),
                                       static_cast<unsigned char>(length >> 16),
                                       static_cast<unsigned char>(length >> 24)};
        std::memcpy(payload.data, head, sizeof(head));
        std::memcpy(payload.data + sizeof(head), text.c_str(), length);
        payload.encapsulation = CDR_LE;
        payload.length = static_cast<uint32_t>(text.size() + overhead);
        return true;
    }

    static bool get(const SerializedPayload_t& payload, void* data)
    {
        const unsigned char* p = payload.data;
        if (payload.length < overhead || p[0] != 0 || p[1] > 1)
        {
            return false;
        }
        const uint32_t length = p[1] == 1
                ? p[4] | p[5] << 8 | p[6] << 16 | static_cast<uint32_t>(p[7]) << 24
                : p[7] | p[6] << 8 | p[5] << 16 | static_cast<uint32_t>(p[4]) << 24;
        if (length == 0 || length > payload.length - 8 || p[8 + length - 1] != 0)
        {
            return false;
        }
        static_cast<std::string*>(data)->assign(reinterpret_cast<const char*>(p) + 8, length - 1);
        return true;
    }

    static uint32_t size(const void* data) { return static_cast<uint32_t>(static_cast<const std::string*>(data)->size() + overhead); }

    static constexpr uint32_t overhead = 4 + 4 + 1;
};

DomainParticipant* participant;
DataWriter* writer;

// In `both`, this program's reader and writer match each other too. They are left out: this version of the library has
// no option for that.
bool own(const rtps::GUID_t& guid)
{
    return guid.guidPrefix == participant->guid().guidPrefix;
}

class WriterListener : public DataWriterListener {
    void on_publication_matched(DataWriter*, const PublicationMatchedStatus& status) override
    {
        if (own(iHandle2GUID(status.last_subscription_handle)))
        {
            own_ += status.current_count_change;
        }
        peer_matched_readers(static_cast<unsigned>(status.current_count - own_));
    }

    int own_ = 0;
};

class ReaderListener : public DataReaderListener {
    void on_subscription_matched(DataReader*, const SubscriptionMatchedStatus& status) override
    {
        if (own(iHandle2GUID(status.last_publication_handle)))
        {
            own_ += status.current_count_change;
        }
        peer_matched_writers(static_cast<unsigned>(status.current_count - own_));
    }

    void on_data_available(DataReader* reader) override
    {
        SampleInfo info;
        while (reader->take_next_sample(&text_, &info) == code_ok)
        {
            if (info.valid_data && !own(info.sample_identity.writer_guid()))
            {
                peer_received(text_.data(), text_.size());
            }
        }
    }

    std::string text_;
    int own_ = 0;
};

WriterListener writer_listener;
ReaderListener reader_listener;

// What the library says goes to stderr, a line in one piece, for stdout carries events only.
class StderrLog : public LogConsumer {
public:
    void Consume(const Log::Entry& entry) override
    {
        std::fprintf(stderr, "%s: %s: %s\n", entry.kind == Log::Kind::Error ? "error" : "warning",
                entry.context.category, entry.message.c_str());
    }
};

bool made(const char* what, const void* entity)
{
    if (entity == nullptr)
    {
        std::fprintf(stderr, "fastdds_peer: cannot create %s\n", what);
    }
    return entity != nullptr;
}

template<typename Qos>
void set_qos(Qos& qos, const peer_options* o)
{
    qos.reliability().kind = o->reliable ? RELIABLE_RELIABILITY_QOS : BEST_EFFORT_RELIABILITY_QOS;
    qos.reliability().max_blocking_time = Duration_t(0, 200000000);
    qos.durability().kind = VOLATILE_DURABILITY_QOS;
    qos.history().kind = o->reliable && o->depth == 0 ? KEEP_ALL_HISTORY_QOS : KEEP_LAST_HISTORY_QOS;
    qos.history().depth = o->depth > 0 ? static_cast<int32_t>(o->depth) : PEER_HISTORY;
    qos.endpoint().history_memory_policy = rtps::DYNAMIC_RESERVE_MEMORY_MODE;
    if (o->depth > 0)
    {
        qos.data_sharing().off();
    }
}

enum peer_result open_peer(const peer_options* o)
{
    // Warnings too: a wrong profile shows there.
    Log::ClearConsumers();
    Log::RegisterConsumer(std::unique_ptr<LogConsumer>(new StderrLog()));
    Log::SetVerbosity(Log::Kind::Warning);

    auto factory = DomainParticipantFactory::get_instance();
    factory->load_profiles();
    DomainParticipantQos participant_qos = factory->get_default_participant_qos();
    participant_qos.name(o->name);
    participant = factory->create_participant(o->domain, participant_qos);
    if (!made("the participant (is FASTRTPS_DEFAULT_PROFILES_FILE right, is the interface up?)", participant))
    {
        return PEER_FAILED;
    }
    TypeSupport type(new StringType());
    if (type.register_type(participant) != code_ok)
    {
        made("the type", nullptr);
        return PEER_FAILED;
    }
    Topic* topic = participant->create_topic(PEER_TOPIC, PEER_TYPE, TOPIC_QOS_DEFAULT);
    if (!made("the topic", topic))
    {
        return PEER_FAILED;
    }
    if (o->subscribe)
    {
        Subscriber* subscriber = participant->create_subscriber(SUBSCRIBER_QOS_DEFAULT);
        if (!made("the subscriber", subscriber))
        {
            return PEER_FAILED;
        }
        // With a depth, what the profile says of readers counts, as for a ROS node.
        DataReaderQos qos = o->depth > 0 ? subscriber->get_default_datareader_qos() : DATAREADER_QOS_DEFAULT;
        set_qos(qos, o);
        if (!made("the reader", subscriber->create_datareader(topic, qos, &reader_listener)))
        {
            return PEER_FAILED;
        }
    }
    if (o->publish)
    {
        Publisher* publisher = participant->create_publisher(PUBLISHER_QOS_DEFAULT);
        if (!made("the publisher", publisher))
        {
            return PEER_FAILED;
        }
        DataWriterQos qos = o->depth > 0 ? publisher->get_default_datawriter_qos() : DATAWRITER_QOS_DEFAULT;
        set_qos(qos, o);
        if (o->depth == 0)
        {
            qos.resource_limits().max_samples = PEER_HISTORY;
            qos.resource_limits().max_instances = 1;
            qos.resource_limits().max_samples_per_instance = PEER_HISTORY;
            qos.resource_limits().allocated_samples = 1;
            // The default of 3 s would leave a lost last sample unnoticed for that long.
            auto& times = qos.reliable_writer_qos().times;
#if FAST3
            times.heartbeat_period = Duration_t(0, 200000000);
#else
            times.heartbeatPeriod = Duration_t(0, 200000000);
#endif
        }
        if (!made("the writer", writer = publisher->create_datawriter(topic, qos, &writer_listener)))
        {
            return PEER_FAILED;
        }
    }
    return PEER_OK;
}

enum peer_result write_text(const char* text, size_t length)
{
    std::string sample(text, length);
    ReturnCode_t rc = writer->write(&sample, rtps::c_InstanceHandle_Unknown);
    if (rc == code_ok)
    {
        return PEER_OK;
    }
    if (rc == code_timeout)
    {
        return PEER_AGAIN;
    }
    std::fprintf(stderr, "fastdds_peer: write failed with code %u\n", code_of(rc));
    return PEER_FAILED;
}

enum peer_result wait_acknowledged()
{
    return writer->wait_for_acknowledgments(Duration_t(0, 200000000)) == code_ok ? PEER_OK : PEER_AGAIN;
}

void close_peer()
{
    // Taking down a reader and its own writer makes the library warn about nothing of interest.
    Log::Flush();
    Log::SetVerbosity(Log::Kind::Error);
    if (participant != nullptr)
    {
        participant->delete_contained_entities();
        DomainParticipantFactory::get_instance()->delete_participant(participant);
    }
    Log::Flush();
}

} // namespace

int main(int argc, char** argv)
{
    static const struct peer_vendor vendor = {"fastdds_peer", open_peer, write_text, wait_acknowledged, close_peer};
    return peer_main(argc, argv, &vendor);
}
