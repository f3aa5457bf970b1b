# Flags for every target. The baseline processor has AVX2; wider instructions live in files that choose at run time.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # Files that use a precompiled header are cached only with these two concessions (ccache's manual): the header's own
  # hash stands for the macros within it, and __TIME__ is not used here.
  set(CMAKE_CXX_COMPILER_LAUNCHER
    ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE_PROGRAM})
endif()

add_library(colossus_flags INTERFACE)
target_include_directories(colossus_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_options(colossus_flags INTERFACE
  "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release>>:-O2>"
  # Contracting a*b+c into one rounding is left to kernels that say so: results must not depend on inlining.
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wno-unused-parameter;-Wno-missing-field-initializers;-ffp-contract=off>")
if(COLOSSUS_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "COLOSSUS_FUZZ needs clang and its libFuzzer: cmake --preset fuzz")
  endif()
  set(CMAKE_DISABLE_PRECOMPILE_HEADERS ON)  # written for GCC
  # The code is warned about where GCC builds it.
  target_compile_options(colossus_flags INTERFACE -w
    -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(colossus_flags INTERFACE -fsanitize=address,undefined)
endif()
if(COLOSSUS_SANITIZE)
  # Behind the instrumentation GCC 12 loses track of its own std::string and std::function and warns of overruns and
  # uninitialised members inside them (like GCC bug 105651). The other presets keep these warnings.
  target_compile_options(colossus_flags INTERFACE
    -Wno-array-bounds -Wno-maybe-uninitialized -Wno-restrict -Wno-stringop-overflow)
endif()
if(COLOSSUS_SANITIZE STREQUAL "address")
  target_compile_options(colossus_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(colossus_flags INTERFACE -fsanitize=address,undefined)
elseif(COLOSSUS_SANITIZE STREQUAL "thread")
  target_compile_options(colossus_flags INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
  target_link_options(colossus_flags INTERFACE -fsanitize=thread)
endif()

# colossus_prelude(name HEADERS header... [LIBS library...] [OPTIONS option...]): headers that many files include, parsed
# once. A target with the same flags takes them by target_precompile_headers(... REUSE_FROM name). Files still include
# what they use: -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON (preset "debug") builds without.
function(colossus_prelude name)
  cmake_parse_arguments(ARG "" "" "HEADERS;LIBS;OPTIONS" ${ARGN})
  file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/${name}.cc CONTENT "")
  add_library(${name} OBJECT ${CMAKE_BINARY_DIR}/${name}.cc)
  target_link_libraries(${name} PRIVATE colossus_flags ${ARG_LIBS})
  # -fpch-preprocess: for ccache.
  target_compile_options(${name} PRIVATE -fpch-preprocess ${ARG_OPTIONS})
  target_precompile_headers(${name} PRIVATE ${ARG_HEADERS})
endfunction()
