#include "base/directory_lock.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/child_process.h"

namespace colossus {
namespace {

TEST(DirectoryLock, IsHeldUntilTheLastChildEnds) {
  std::string directory = testing::TempDir() + "colossus-lock-XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  auto first = DirectoryLock::take(directory);
  ASSERT_TRUE(first.ok()) << first.status().message();
  EXPECT_EQ(DirectoryLock::take(directory).status().code(), ErrorCode::kUnavailable);
  auto child = ChildProcess::start({.arguments = {"sleep", "100"}, .environment = {}});
  ASSERT_TRUE(child.ok());
  { const DirectoryLock moved = std::move(*first); }
  EXPECT_EQ(DirectoryLock::take(directory).status().code(), ErrorCode::kUnavailable);
  child->send(SIGKILL);
  child->wait();
  EXPECT_TRUE(DirectoryLock::take(directory).ok());
  EXPECT_TRUE(DirectoryLock::take(directory).ok());
  ::rmdir(directory.c_str());
  EXPECT_EQ(DirectoryLock::take(directory).status().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace colossus
