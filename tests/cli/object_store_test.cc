// A run's checkpoint at an object store, through the binary.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/s3/testing.h"
#include "workplace.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;

TEST(ObjectStore, ACheckpointIsCopiedVerifiedAndUsedThere) {
  const Workplace place;
  place.must_succeed(Workplace::train("run", {"--set", "train.steps=20"}));
  const FakeS3 service;
  const std::string keys = fmt::format(
      "unset AWS_SESSION_TOKEN AWS_ENDPOINT_URL_S3; export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} AWS_REGION={} "
      "AWS_ENDPOINT_URL={}; {} ",
      FakeS3::kAccessKeyId, FakeS3::kSecret, FakeS3::kRegion, service.endpoint(), COLOSSUS_BINARY);
  const auto succeeds = [&](const std::string& words) {
    const Outcome outcome = place.shell(keys + words);
    EXPECT_EQ(outcome.exit_code, 0) << words << ": " << outcome.err;
    return outcome.out;
  };
  succeeds("checkpoint copy run s3://bucket/models/one");
  EXPECT_THAT(service.objects(), testing::Contains(testing::Key("bucket/models/one/manifest.json")));
  EXPECT_THAT(succeeds("checkpoint verify s3://bucket/models/one"), HasSubstr("all checksums hold"));
  EXPECT_THAT(succeeds("checkpoint show s3://bucket/models/one"), HasSubstr("step             20"));
  const std::string words = " --prompt 'the captain' --max-tokens 20 --temperature 0";
  EXPECT_EQ(succeeds("generate s3://bucket/models/one" + words),
            place.shell(COLOSSUS_BINARY " generate run" + words).out);
  succeeds("checkpoint copy s3://bucket/models/one back");
  EXPECT_EQ(place.read("back/model.safetensors"), place.read(place.newest_checkpoint("run") + "/model.safetensors"));
  succeeds("checkpoint consolidate s3://bucket/models/one s3://bucket/models/two --model-only");

  const Outcome again = place.shell(keys + "checkpoint copy run s3://bucket/models/one");
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.err, HasSubstr("is there already"));
  const Outcome refused = place.shell(keys + "checkpoint copy run s3://other/one");
  EXPECT_EQ(refused.exit_code, 3);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("NoSuchBucket"), HasSubstr("make the bucket")));
  const Outcome without =
      place.shell(std::string("unset AWS_ACCESS_KEY_ID; ") + COLOSSUS_BINARY + " checkpoint show s3://bucket/x");
  EXPECT_EQ(without.exit_code, 2);
  EXPECT_THAT(without.err, HasSubstr("AWS_ACCESS_KEY_ID"));
}

}  // namespace
}  // namespace colossus
