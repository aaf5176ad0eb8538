// The raw program on eProsima Fast DDS, which leaves the payload of a type of ours alone.
#include "raw.h"

#include <fastdds/dds/domain/DomainParticipant.hpp>
#include <fastdds/dds/domain/DomainParticipantFactory.hpp>
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

#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

using namespace eprosima::fastdds::dds;
using eprosima::fastrtps::rtps::InstanceHandle_t;
using eprosima::fastrtps::rtps::SerializedPayload_t;
using eprosima::fastrtps::rtps::WriteParams;
using eprosima::fastrtps::types::ReturnCode_t;

namespace {

using Bytes = std::vector<uint8_t>;

class RawType : public TopicDataType {
public:
    explicit RawType(const char* name)
    {
        setName(name);
        m_typeSize = RAW_SIZE_MAX;
        m_isGetKeyDefined = false;
        auto_fill_type_object(false);
        auto_fill_type_information(false);
    }

    bool serialize(void* data, SerializedPayload_t* payload) override
    {
        const Bytes& b = *static_cast<Bytes*>(data);
        if (payload->max_size < b.size())
        {
            return false;
        }
        std::memcpy(payload->data, b.data(), b.size());
        payload->encapsulation = CDR_LE;
        payload->length = static_cast<uint32_t>(b.size());
        return true;
    }

    bool deserialize(SerializedPayload_t* payload, void* data) override
    {
        static_cast<Bytes*>(data)->assign(payload->data, payload->data + payload->length);
        return true;
    }

    std::function<uint32_t()> getSerializedSizeProvider(void* data) override
    {
        return [data]() { return static_cast<uint32_t>(static_cast<Bytes*>(data)->size()); };
    }

    void* createData() override { return new Bytes(); }
    void deleteData(void* data) override { delete static_cast<Bytes*>(data); }
    bool getKey(void*, InstanceHandle_t*, bool) override { return false; }
};

const raw_options* options;
DomainParticipant* participant;
DataWriter* writer;
DataReader* reader;
Bytes request;

class WriterListener : public DataWriterListener {
    void on_publication_matched(DataWriter*, const PublicationMatchedStatus& status) override
    {
        raw_matched(false, static_cast<unsigned>(status.current_count));
    }
};

class ReaderListener : public DataReaderListener {
    void on_subscription_matched(DataReader*, const SubscriptionMatchedStatus& status) override
    {
        raw_matched(true, static_cast<unsigned>(status.current_count));
    }

    void on_data_available(DataReader* from) override
    {
        SampleInfo info;
        while (from->take_next_sample(&payload_, &info) == ReturnCode_t::RETCODE_OK)
        {
            if (info.valid_data && (!options->call || info.related_sample_identity.writer_guid() == from->guid() ||
                    info.related_sample_identity.writer_guid() == writer->guid()))
            {
                raw_arrived(payload_.data(), payload_.size());
            }
        }
    }

    Bytes payload_;
};

WriterListener writer_listener;
ReaderListener reader_listener;

template<typename Qos>
void set_qos(Qos& qos)
{
    qos.reliability().kind = RELIABLE_RELIABILITY_QOS;
    qos.durability().kind = options->transient_local ? TRANSIENT_LOCAL_DURABILITY_QOS : VOLATILE_DURABILITY_QOS;
    qos.history().kind = KEEP_LAST_HISTORY_QOS;
    qos.history().depth = static_cast<int32_t>(options->depth);
    qos.endpoint().history_memory_policy = eprosima::fastrtps::rtps::DYNAMIC_REUSABLE_MEMORY_MODE;
    qos.user_data().setValue(Bytes(options->user_data, options->user_data + std::strlen(options->user_data)));
}

Topic* topic(const char* name, const char* type)
{
    TypeSupport support(new RawType(type));
    return support.register_type(participant) == ReturnCode_t::RETCODE_OK ? participant->create_topic(name, type, TOPIC_QOS_DEFAULT) : nullptr;
}

// The request in plain CDR, little endian: a message without fields has one byte.
void encode()
{
    request = {0, 1, 0, 0};
    if (options->n_fields == 0)
    {
        request.push_back(0);
    }
    for (unsigned i = 0; i < options->n_fields; i++)
    {
        const uint32_t length = static_cast<uint32_t>(std::strlen(options->fields[i]) + 1);
        request.resize((request.size() + 3) / 4 * 4);
        for (int shift = 0; shift < 32; shift += 8)
        {
            request.push_back(static_cast<uint8_t>(length >> shift));
        }
        request.insert(request.end(), options->fields[i], options->fields[i] + length);
    }
    request.resize((request.size() + 3) / 4 * 4);
}

bool open_endpoints()
{
    auto factory = DomainParticipantFactory::get_instance();
    factory->load_profiles();
    participant = factory->create_participant(0, factory->get_default_participant_qos());
    if (participant == nullptr)
    {
        return false;
    }
    if (options->call)
    {
        Topic* out = topic(options->out_topic, options->out_type);
        Publisher* publisher = participant->create_publisher(PUBLISHER_QOS_DEFAULT);
        DataWriterQos qos = DATAWRITER_QOS_DEFAULT;
        set_qos(qos);
        if (out == nullptr || publisher == nullptr || (writer = publisher->create_datawriter(out, qos, &writer_listener)) == nullptr)
        {
            return false;
        }
    }
    Topic* in = topic(options->in_topic, options->in_type);
    Subscriber* subscriber = participant->create_subscriber(SUBSCRIBER_QOS_DEFAULT);
    DataReaderQos qos = DATAREADER_QOS_DEFAULT;
    set_qos(qos);
    return in != nullptr && subscriber != nullptr && (reader = subscriber->create_datareader(in, qos, &reader_listener)) != nullptr;
}

bool open_raw(const raw_options* o)
{
    options = o;
    encode();
    const bool ok = open_endpoints();
    if (!ok)
    {
        std::fprintf(stderr, "raw_fastdds: cannot create the endpoints (is FASTRTPS_DEFAULT_PROFILES_FILE right?)\n");
    }
    return ok;
}

bool ask()
{
    WriteParams params;
    params.related_sample_identity().writer_guid() = reader->guid();
    return writer->write(&request, params);
}

void close_raw()
{
    participant->delete_contained_entities();
    DomainParticipantFactory::get_instance()->delete_participant(participant);
}

} // namespace

int main(int argc, char** argv)
{
    static const struct raw_vendor vendor = {"raw_fastdds", open_raw, ask, close_raw};
    return raw_main(argc, argv, &vendor);
}
