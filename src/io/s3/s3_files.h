// Objects of S3 as files: paths "s3://bucket/some/key".
//
// What is different from a disk: a file is not seen before its writer was closed, then it is there whole, in the place
// of an older one; sync() promises nothing, close() all. Names cannot be changed (can_rename), files not appended to.
// Directories exist as long as something is in them. Large files go up in parts, of 16 MiB at first; one whose writer
// ends without close() leaves nothing.
#pragma once

#include <memory>

#include "io/file_system.h"
#include "io/s3/s3_client.h"

namespace colossus {

std::unique_ptr<FileSystem> make_s3_files(S3Options options);

// The local disk, and S3 for paths that begin with "s3://", by the environment (s3_options_from_environment, read when
// the first such path is used).
FileSystem& all_files();

// Bytes of part `index` of a file that goes up in parts, counted from 0: with a first one of 16 MiB, 10,000 of them
// hold more than an object may (5 TiB), and small files need little memory.
int64_t s3_part_bytes(int64_t first_part_bytes, size_t index);

}  // namespace colossus
