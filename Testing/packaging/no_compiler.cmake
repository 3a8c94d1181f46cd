# A toolchain for machines without a compiler: an extension of Python files names the languages C and
# C++ without using them, since project(SemiSupSeg) is how the Extensions Index wants it.
foreach(language C CXX)
  set(CMAKE_${language}_COMPILER "${CMAKE_COMMAND}")
  set(CMAKE_${language}_COMPILER_ID_RUN TRUE)
  set(CMAKE_${language}_COMPILER_ID none)
  set(CMAKE_${language}_COMPILER_FORCED TRUE)
endforeach()
