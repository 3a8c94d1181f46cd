# What include(${Slicer_USE_FILE}) defines: the macros for scripted modules and their tests.
#
# Kept from the real ones, because a mistake in an extension shows by it:
# - An entry is copied to the same relative path, also one with "../", which thereby leaves the
#   folder that is installed; there is no warning.
# - Nothing is installed by name: the folder in the build tree is, with all that lies in it, and as
#   a part of the component RuntimeLibraries, which is all that a package holds.
# - Entries that do not exist are refused, and so is a module without scripts.

# The real one begins by naming the extension after the project.
set(EXTENSION_NAME "${PROJECT_NAME}")
# On a Mac there is the path inside the bundle before it.
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
include(CTest)
find_package(Python3 COMPONENTS Interpreter REQUIRED)

function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(PARSE_ARGV 0 module
    "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES")
  if(module_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "Unknown keywords: ${module_UNPARSED_ARGUMENTS}")
  endif()
  foreach(needed NAME SCRIPTS)
    if(NOT module_${needed})
      message(FATAL_ERROR "${needed} is mandatory")
    endif()
  endforeach()
  foreach(entry IN LISTS module_SCRIPTS module_RESOURCES)
    get_filename_component(source "${entry}" ABSOLUTE)
    if(NOT EXISTS "${source}" AND NOT EXISTS "${source}.py")
      message(FATAL_ERROR "${module_NAME} lists a nonexistent file: ${entry}")
    endif()
  endforeach()

  set(destination "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
  # With a slash at its end, the folder's content is installed instead of the folder.
  set(installed "${destination}/")
  if(module_WITH_SUBDIR)
    get_filename_component(folder "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
    string(APPEND destination "/${folder}")
    set(installed "${destination}")
  endif()
  _copy_and_compile(${module_NAME} "${destination}" "${module_SCRIPTS}" "${module_RESOURCES}")
  install(
    DIRECTORY "${installed}"
    DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}"
    COMPONENT RuntimeLibraries
    USE_SOURCE_PERMISSIONS
  )

  if(BUILD_TESTING AND module_WITH_GENERIC_TESTS)
    set(test "${CMAKE_CURRENT_BINARY_DIR}/qSlicer${module_NAME}ModuleGenericTest.py")
    file(WRITE "${test}" "# Slicer writes the test here that makes the module and its widget.\n")
    slicer_add_python_unittest(SCRIPT "${test}" TESTNAME_PREFIX nomainwindow_)
  endif()
endfunction()

function(_copy_and_compile name destination scripts resources)
  set(copies "")
  set(compile "import py_compile\n")
  foreach(entry IN LISTS scripts resources)
    if(entry IN_LIST scripts AND NOT entry MATCHES "py$")
      string(APPEND entry ".py")
    endif()
    set(copy "${destination}/${entry}")
    add_custom_command(
      OUTPUT "${copy}"
      DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${entry}"
      COMMAND "${CMAKE_COMMAND}" -E copy "${CMAKE_CURRENT_SOURCE_DIR}/${entry}" "${copy}"
    )
    list(APPEND copies "${copy}")
    if(entry MATCHES "py$")
      # Byte code lies beside its script. The real one goes on after a script with a mistake.
      string(APPEND compile "py_compile.compile(r'${copy}', r'${copy}c', doraise=True)\n")
    endif()
  endforeach()
  set(program "${CMAKE_CURRENT_BINARY_DIR}/compile_${name}.py")
  file(WRITE "${program}" "${compile}")
  add_custom_command(
    OUTPUT "${program}.done"
    DEPENDS ${copies}
    COMMAND "${Python3_EXECUTABLE}" "${program}"
    COMMAND "${CMAKE_COMMAND}" -E touch "${program}.done"
  )
  add_custom_target(Compile${name}PythonFiles ALL DEPENDS "${program}.done")
endfunction()

# The test is registered with the folder and the module name that Slicer would get.
function(slicer_add_python_unittest)
  cmake_parse_arguments(PARSE_ARGV 0 test "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS")
  get_filename_component(name "${test_SCRIPT}" NAME_WE)
  # A relative folder stays so, though it would then be looked for below Slicer's own.
  get_filename_component(folder "${test_SCRIPT}" DIRECTORY)
  if(folder STREQUAL "")
    set(folder "${CMAKE_CURRENT_SOURCE_DIR}")
  endif()
  add_test(
    NAME "py_${test_TESTNAME_PREFIX}${name}"
    COMMAND "${CMAKE_COMMAND}" -E echo Slicer ${test_SLICER_ARGS} "${folder}" "${name}"
  )
endfunction()
