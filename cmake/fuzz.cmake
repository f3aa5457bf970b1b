# Fuzzing of the readers (docs/fuzzing.md): one target for each tests/fuzz/<reader>_fuzz.cc, which defines
# LLVMFuzzerTestOneInput.
#
# With COLOSSUS_FUZZ (clang) each becomes a libFuzzer program of that name in build/fuzz/fuzz. Without, all of them
# become one test program that replays and mutates the kept corpus; there the entry points are told apart by name.

# The libraries of the floors whose headers a source includes.
function(colossus_floors_of source result)
  file(STRINGS ${source} includes REGEX "^#include \"[a-z_]+/")
  set(floors colossus_base)
  foreach(include ${includes})
    string(REGEX REPLACE "^#include \"([a-z_]+)/.*" "colossus_\\1" floor ${include})
    if(TARGET ${floor})
      list(APPEND floors ${floor})
    endif()
  endforeach()
  list(REMOVE_DUPLICATES floors)
  set(${result} ${floors} PARENT_SCOPE)
endfunction()

function(colossus_fuzz_targets)
  file(GLOB sources CONFIGURE_DEPENDS tests/fuzz/*_fuzz.cc)
  if(COLOSSUS_FUZZ)
    add_custom_target(fuzz_programs)
    add_library(colossus_fuzz_parts OBJECT tests/fuzz/fuzz.cc tests/fuzz/heap_sanitizer.cc)
    target_include_directories(colossus_fuzz_parts PUBLIC tests)
    target_link_libraries(colossus_fuzz_parts PUBLIC colossus_base)
    foreach(source ${sources})
      get_filename_component(name ${source} NAME_WE)
      colossus_floors_of(${source} floors)
      add_executable(${name} ${source})
      target_link_libraries(${name} PRIVATE colossus_fuzz_parts ${floors})
      target_link_options(${name} PRIVATE -fsanitize=fuzzer)
      set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
      add_dependencies(fuzz_programs ${name})
    endforeach()
    return()
  endif()
  if(NOT COLOSSUS_TESTS)
    return()
  endif()
  set(declarations "")
  set(rows "")
  foreach(source ${sources})
    get_filename_component(name ${source} NAME_WE)
    string(REGEX REPLACE "_fuzz$" "" target ${name})
    set_source_files_properties(${source} PROPERTIES COMPILE_DEFINITIONS LLVMFuzzerTestOneInput=fuzz_one_${target}
      SKIP_PRECOMPILE_HEADERS ON)
    string(APPEND declarations "extern \"C\" int fuzz_one_${target}(const uint8_t* bytes, size_t size);\n")
    string(APPEND rows "      {\"${target}\", fuzz_one_${target}},\n")
  endforeach()
  file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/fuzz_table.cc CONTENT "#include \"fuzz/fuzz.h\"

${declarations}
namespace colossus {

std::span<const FuzzTarget> fuzz_targets() {
  static constexpr FuzzTarget kTargets[] = {
${rows}  };
  return kTargets;
}

}  // namespace colossus
")
  # The sanitizers' allocator has a hook of its own.
  set(heap tests/fuzz/heap_glibc.cc)
  if(COLOSSUS_SANITIZE)
    set(heap tests/fuzz/heap_sanitizer.cc)
  endif()
  file(GLOB tests CONFIGURE_DEPENDS tests/fuzz/*_test.cc)
  set(parts ${CMAKE_BINARY_DIR}/fuzz_table.cc tests/fuzz/fuzz.cc ${heap})
  set_source_files_properties(${parts} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  set(upper_floors plan node_check)
  if(COLOSSUS_COVERAGE)
    set(upper_floors upstairs)  # cmake/coverage.cmake
  endif()
  colossus_add_tests(colossus_fuzz_test SOURCES ${tests} ${sources} ${parts}
    DEPS convert data checkpoint ${upper_floors})
  target_include_directories(colossus_fuzz_test PRIVATE tests)
endfunction()
