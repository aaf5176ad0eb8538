// The peer on eProsima Fast DDS, with services as rmw_fastrtps_cpp maps them: a request names the client's reply reader,
// a reply the request, both in a related sample identity.
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
#include <fastdds/rtps/common/WriteParams.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

using namespace eprosima::fastdds::dds;
using eprosima::fastrtps::Duration_t;
using eprosima::fastrtps::rtps::c_Guid_Unknown;
using eprosima::fastrtps::rtps::GUID_t;
using eprosima::fastrtps::rtps::iHandle2GUID;
using eprosima::fastrtps::rtps::InstanceHandle_t;
using eprosima::fastrtps::rtps::SampleIdentity;
using eprosima::fastrtps::rtps::SerializedPayload_t;
using eprosima::fastrtps::rtps::WriteParams;
using eprosima::fastrtps::types::ReturnCode_t;

namespace {

struct Message {
    uint64_t number = 0;
    uint32_t crc = 0;
    std::vector<uint8_t> data;
};

void put(uint8_t* p, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
    {
        p[i] = static_cast<uint8_t>(v >> 8 * i);
    }
}

uint64_t get(const uint8_t* p, int n, bool little)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++)
    {
        v |= static_cast<uint64_t>(p[i]) << 8 * (little ? i : n - 1 - i);
    }
    return v;
}

// Message and both halves of the service are {uint64 number, uint32 crc, sequence<octet> data} in plain CDR: after the
// header of 4 bytes number at 0, crc at 8, the length at 12, the data at 16.
class MessageType : public TopicDataType {
public:
    explicit MessageType(const char* name)
    {
        setName(name);
        m_typeSize = PEER_SIZE_MAX + overhead;
        m_isGetKeyDefined = false;
        auto_fill_type_object(false);
        auto_fill_type_information(false);
    }

    bool serialize(void* data, SerializedPayload_t* payload) override
    {
        const Message& m = *static_cast<Message*>(data);
        if (payload->max_size < m.data.size() + overhead)
        {
            return false;
        }
        put(payload->data, 0x0100, 4);
        put(payload->data + 4, m.number, 8);
        put(payload->data + 12, m.crc, 4);
        put(payload->data + 16, m.data.size(), 4);
        if (!m.data.empty())
        {
            std::memcpy(payload->data + overhead, m.data.data(), m.data.size());
        }
        payload->encapsulation = CDR_LE;
        payload->length = static_cast<uint32_t>(m.data.size() + overhead);
        return true;
    }

    bool deserialize(SerializedPayload_t* payload, void* data) override
    {
        const uint8_t* p = payload->data;
        if (payload->length < overhead || p[0] != 0 || p[1] > 1)
        {
            return false;
        }
        const bool little = p[1] == 1;
        const uint64_t size = get(p + 16, 4, little);
        if (size > payload->length - overhead)
        {
            return false;
        }
        Message& m = *static_cast<Message*>(data);
        m.number = get(p + 4, 8, little);
        m.crc = static_cast<uint32_t>(get(p + 12, 4, little));
        m.data.assign(p + overhead, p + overhead + size);
        return true;
    }

    std::function<uint32_t()> getSerializedSizeProvider(void* data) override
    {
        return [data]() { return static_cast<uint32_t>(static_cast<Message*>(data)->data.size() + overhead); };
    }

    void* createData() override { return new Message(); }
    void deleteData(void* data) override { delete static_cast<Message*>(data); }
    bool getKey(void*, InstanceHandle_t*, bool) override { return false; }

private:
    static constexpr uint32_t overhead = 20;
};

const peer_options* options;
DomainParticipant* participant;
DataWriter* writer;
DataReader* reader;

// The readers that match the writer: a server answers when the client's is among them, as rmw_fastrtps does.
std::mutex readers_lock;
std::condition_variable readers_changed;
std::set<GUID_t> readers;

class WriterListener : public DataWriterListener {
    void on_publication_matched(DataWriter*, const PublicationMatchedStatus& status) override
    {
        {
            std::lock_guard<std::mutex> guard(readers_lock);
            const GUID_t guid = iHandle2GUID(status.last_subscription_handle);
            if (status.current_count_change > 0)
            {
                readers.insert(guid);
            }
            else
            {
                readers.erase(guid);
            }
        }
        readers_changed.notify_all();
        peer_matched_readers(static_cast<unsigned>(status.current_count));
    }

    void on_offered_incompatible_qos(DataWriter*, const OfferedIncompatibleQosStatus& status) override
    {
        peer_incompatible(static_cast<unsigned>(status.last_policy_id));
    }
};

class ReaderListener : public DataReaderListener {
    void on_subscription_matched(DataReader*, const SubscriptionMatchedStatus& status) override
    {
        peer_matched_writers(static_cast<unsigned>(status.current_count));
    }

    void on_requested_incompatible_qos(DataReader*, const RequestedIncompatibleQosStatus& status) override
    {
        peer_incompatible(static_cast<unsigned>(status.last_policy_id));
    }

    void on_data_available(DataReader* from) override
    {
        SampleInfo info;
        while (from->take_next_sample(&message_, &info) == ReturnCode_t::RETCODE_OK)
        {
            if (!info.valid_data)
            {
                continue;
            }
            const peer_sample s = {message_.number, message_.crc, message_.data.data(), message_.data.size()};
            if (options->mode == PEER_SERVER)
            {
                if (peer_received(&s))
                {
                    answer(info);
                }
            }
            else if (options->mode == PEER_SUB || info.related_sample_identity.writer_guid() == from->guid() ||
                    info.related_sample_identity.writer_guid() == writer->guid())
            {
                peer_received(&s);
            }
        }
    }

    void answer(const SampleInfo& info)
    {
        SampleIdentity request = info.sample_identity;
        const GUID_t reply_reader = info.related_sample_identity.writer_guid();
        if (reply_reader != c_Guid_Unknown)
        {
            request.writer_guid(reply_reader);
            std::unique_lock<std::mutex> guard(readers_lock);
            readers_changed.wait_for(guard, std::chrono::milliseconds(500), [&] { return readers.count(reply_reader) > 0; });
        }
        WriteParams params;
        params.related_sample_identity(request);
        if (!writer->write(&message_, params))
        {
            std::fprintf(stderr, "fastdds: the answer was not written\n");
        }
    }

    Message message_;
};

WriterListener writer_listener;
ReaderListener reader_listener;

class StderrLog : public LogConsumer {
public:
    void Consume(const Log::Entry& entry) override
    {
        std::fprintf(stderr, "%s: %s: %s\n", entry.kind == Log::Kind::Error ? "error" : "warning", entry.context.category,
                entry.message.c_str());
    }
};

bool made(const char* what, const void* entity)
{
    if (entity == nullptr)
    {
        std::fprintf(stderr, "fastdds: cannot create %s\n", what);
    }
    return entity != nullptr;
}

template<typename Qos>
void set_qos(Qos& qos)
{
    qos.reliability().kind = options->reliable ? RELIABLE_RELIABILITY_QOS : BEST_EFFORT_RELIABILITY_QOS;
    qos.reliability().max_blocking_time = Duration_t(0, 200000000);
    qos.durability().kind = options->transient_local ? TRANSIENT_LOCAL_DURABILITY_QOS : VOLATILE_DURABILITY_QOS;
    qos.history().kind = options->keep_all ? KEEP_ALL_HISTORY_QOS : KEEP_LAST_HISTORY_QOS;
    qos.history().depth = static_cast<int32_t>(options->depth);
    qos.endpoint().history_memory_policy = eprosima::fastrtps::rtps::DYNAMIC_REUSABLE_MEMORY_MODE;
    qos.resource_limits().allocated_samples = 1;
    if (static_cast<int32_t>(options->depth) > qos.resource_limits().max_samples_per_instance)
    {
        qos.resource_limits().max_samples_per_instance = static_cast<int32_t>(options->depth);
    }
}

Topic* topic(const char* name, const char* type)
{
    TypeSupport support(new MessageType(type));
    Topic* t = nullptr;
    if (support.register_type(participant) == ReturnCode_t::RETCODE_OK)
    {
        t = participant->create_topic(name, type, TOPIC_QOS_DEFAULT);
    }
    made("the topic", t);
    return t;
}

enum peer_result open_peer(const peer_options* o)
{
    options = o;
    Log::ClearConsumers();
    Log::RegisterConsumer(std::unique_ptr<LogConsumer>(new StderrLog()));
    Log::SetVerbosity(Log::Kind::Warning);
    auto factory = DomainParticipantFactory::get_instance();
    factory->load_profiles();
    participant = factory->create_participant(o->domain, factory->get_default_participant_qos());
    if (!made("the participant (is FASTRTPS_DEFAULT_PROFILES_FILE right?)", participant))
    {
        return PEER_FAILED;
    }
    Topic* in = nullptr;
    Topic* out = nullptr;
    switch (o->mode)
    {
        case PEER_PUB:
            out = topic(o->topic, PEER_MESSAGE_TYPE);
            break;
        case PEER_SUB:
            in = topic(o->topic, PEER_MESSAGE_TYPE);
            break;
        case PEER_CLIENT:
            out = topic(o->request, PEER_REQUEST_TYPE);
            in = topic(o->reply, PEER_RESPONSE_TYPE);
            break;
        case PEER_SERVER:
            in = topic(o->request, PEER_REQUEST_TYPE);
            out = topic(o->reply, PEER_RESPONSE_TYPE);
            break;
    }
    // The writer first: a request must find it.
    if (out != nullptr)
    {
        DataWriterQos qos = DATAWRITER_QOS_DEFAULT;
        set_qos(qos);
        qos.reliable_writer_qos().times.heartbeatPeriod = Duration_t(0, 200000000);
        Publisher* publisher = participant->create_publisher(PUBLISHER_QOS_DEFAULT);
        if (!made("the publisher", publisher) ||
                !made("the writer", writer = publisher->create_datawriter(out, qos, &writer_listener)))
        {
            return PEER_FAILED;
        }
    }
    if (in != nullptr)
    {
        DataReaderQos qos = DATAREADER_QOS_DEFAULT;
        set_qos(qos);
        Subscriber* subscriber = participant->create_subscriber(SUBSCRIBER_QOS_DEFAULT);
        if (!made("the subscriber", subscriber) ||
                !made("the reader", reader = subscriber->create_datareader(in, qos, &reader_listener)))
        {
            return PEER_FAILED;
        }
    }
    return (o->mode == PEER_SUB || out != nullptr) && (o->mode == PEER_PUB || in != nullptr) ? PEER_OK : PEER_FAILED;
}

enum peer_result write_sample(const peer_sample* s)
{
    Message m;
    m.number = s->number;
    m.crc = s->crc;
    m.data.assign(s->data, s->data + s->size);
    if (options->mode == PEER_CLIENT)
    {
        WriteParams params;
        params.related_sample_identity().writer_guid() = reader->guid();
        return writer->write(&m, params) ? PEER_OK : PEER_AGAIN;
    }
    const ReturnCode_t rc = writer->write(&m, eprosima::fastrtps::rtps::c_InstanceHandle_Unknown);
    if (rc == ReturnCode_t::RETCODE_OK)
    {
        return PEER_OK;
    }
    if (rc == ReturnCode_t::RETCODE_TIMEOUT)
    {
        return PEER_AGAIN;
    }
    std::fprintf(stderr, "fastdds: write failed with code %u\n", rc());
    return PEER_FAILED;
}

enum peer_result wait_acknowledged()
{
    return writer->wait_for_acknowledgments(Duration_t(0, 200000000)) == ReturnCode_t::RETCODE_OK ? PEER_OK : PEER_AGAIN;
}

void close_peer()
{
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
    static const struct peer_vendor vendor = {"fastdds", open_peer, write_sample, wait_acknowledged, close_peer};
    return peer_main(argc, argv, &vendor);
}
