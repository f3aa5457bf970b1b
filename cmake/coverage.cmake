# Line coverage of the readers (docs/fuzzing.md): with COLOSSUS_COVERAGE their sources, tests/fuzz/readers.txt, count
# their lines. The target reader_tests builds the tests that read: those of the floors of the files, those of readers in
# the upper floors, and the fuzz targets with the kept corpus. scripts/reader_coverage.sh runs them. One program for all
# of them would not do: tests of different floors have functions of one name.
function(colossus_count_reader_lines)
  if(NOT COLOSSUS_COVERAGE)
    return()
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS tests/fuzz/readers.txt)
  file(STRINGS tests/fuzz/readers.txt rows REGEX "^[a-z]")
  foreach(row ${rows})
    string(REGEX REPLACE "^[^:]*: *" "" row "${row}")
    string(REPLACE " " ";" row "${row}")
    foreach(source ${row})
      # The prelude is compiled without. Counters are shared by threads.
      set_source_files_properties(src/${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON
        COMPILE_OPTIONS "--coverage;-fprofile-update=atomic")
    endforeach()
  endforeach()
endfunction()

# What readers of the upper floors need there, file by file: whole floors would be ten times as much to compile. A file
# that is missing here is an undefined symbol.
set(COLOSSUS_READERS_UPSTAIRS
  device/sim/hardware device/sim/kernel_times
  node_check/figures node_check/fleet node_check/gpu_check node_check/kernel_log node_check/nvidia_smi
  node_check/report node_check/system_text node_check/xid
  parallel/mesh
  plan/assumption plan/build_out_spec plan/calibration plan/cluster plan/layout plan/published_run plan/ready_files
  plan/spread
  train/dial train/optimizer_config train/run_config train/metrics/event_file train/metrics/json_lines
  train/recovery/fleet train/recovery/membership train/recovery/run_records train/recovery/waits)
set(COLOSSUS_READER_TESTS_UPSTAIRS
  comm/etcd_messages comm/tcp_network comm/tcp_socket node_check/fleet node_check/kernel_log node_check/gpu_check
  plan/calibration plan/cluster plan/published_run train/run_config train/metrics/metrics train/recovery/run_records
  train/recovery/waits)

# colossus_upstairs: those of them that read, as a floor of its own.
function(colossus_readers_upstairs)
  if(NOT COLOSSUS_COVERAGE)
    return()
  endif()
  list(TRANSFORM COLOSSUS_READERS_UPSTAIRS PREPEND src/)
  list(TRANSFORM COLOSSUS_READERS_UPSTAIRS APPEND .cc)
  add_library(colossus_upstairs STATIC ${COLOSSUS_READERS_UPSTAIRS} ${CMAKE_BINARY_DIR}/ready_files_table.cc)
  target_compile_options(colossus_upstairs PRIVATE -fpch-preprocess)
  target_precompile_headers(colossus_upstairs REUSE_FROM colossus_floor_prelude)
  target_link_libraries(colossus_upstairs PUBLIC colossus_model colossus_data colossus_checkpoint colossus_comm)
  list(TRANSFORM COLOSSUS_READER_TESTS_UPSTAIRS PREPEND src/)
  list(TRANSFORM COLOSSUS_READER_TESTS_UPSTAIRS APPEND _test.cc)
  colossus_add_tests(colossus_upstairs_test SOURCES ${COLOSSUS_READER_TESTS_UPSTAIRS} DEPS upstairs)
endfunction()

function(colossus_reader_tests)
  if(NOT COLOSSUS_COVERAGE)
    return()
  endif()
  set(tests colossus_io_test colossus_text_test colossus_data_test colossus_checkpoint_test colossus_convert_test
    colossus_upstairs_test colossus_fuzz_test)
  foreach(test ${tests})
    target_link_options(${test} PRIVATE --coverage)
  endforeach()
  add_custom_target(reader_tests DEPENDS ${tests})
endfunction()
