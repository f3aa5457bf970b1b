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

// The start of a command line.
std::string binary_with_keys(const FakeS3& service) {
  return fmt::format(
      "unset AWS_SESSION_TOKEN AWS_ENDPOINT_URL_S3; export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} AWS_REGION={} "
      "AWS_ENDPOINT_URL={}; {} ",
      FakeS3::kAccessKeyId, FakeS3::kSecret, FakeS3::kRegion, service.endpoint(), COLOSSUS_BINARY);
}

TEST(ObjectStore, ACheckpointIsCopiedVerifiedAndUsedThere) {
  const Workplace place;
  place.must_succeed(Workplace::train("run", {"--set", "train.steps=20"}));
  const FakeS3 service;
  const std::string keys = binary_with_keys(service);
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

// Ranks come and go between the calls; each reads its parts there.
TEST(ObjectStore, ARunKeepsItsCheckpointsThere) {
  const Workplace place;
  const std::vector<std::string> leaves = {"--set", "train.steps=20",          "--set", "train.microbatch=2",
                                           "--set", "train.reduction_leaves=2"};
  place.must_succeed(Workplace::train("undisturbed", leaves));
  const FakeS3 service;
  const auto train = [&](const std::string& more) {
    return place.shell(binary_with_keys(service) +
                       "train run.toml --data shards --out run --set train.steps=20 --set train.microbatch=2 --set "
                       "train.reduction_leaves=2 --set train.checkpoint_every=5 --set train.keep_last=2 --set "
                       "train.checkpoint_directory=s3://bucket/run " +
                       more);
  };
  const Outcome stopped = train("--ranks 2 --set train.max_seconds=0.000001");
  ASSERT_EQ(stopped.exit_code, 0) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("colossus generate s3://bucket/run"));
  for (const char* ranks : {"", "--set mesh.shard=2"}) {
    const Outcome outcome = train(ranks);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  // Where its time was up, it has one validation more.
  const auto of_steps = [&](const std::string& run) {
    std::vector<std::string> lines = place.losses(run);
    std::erase_if(lines, [](const std::string& line) { return line.find("validation") != std::string::npos; });
    return lines;
  };
  EXPECT_THAT(of_steps("run"), SizeIs(20));
  EXPECT_EQ(of_steps("run"), of_steps("undisturbed"));
  EXPECT_FALSE(local_files().stat(place.path("run/checkpoints")).ok());
  const Outcome verified = place.shell(binary_with_keys(service) + "checkpoint verify s3://bucket/run");
  EXPECT_EQ(verified.exit_code, 0) << verified.err;
  EXPECT_THAT(verified.out, AllOf(HasSubstr("step-00000015"), HasSubstr("step-00000020")));
}

}  // namespace
}  // namespace colossus
