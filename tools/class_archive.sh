# Sourced by spark-submit.sh, whose variables it shares: Java classes archived for later runs.
#
# Half of a short run's processor time goes into loading Java classes. The first captioning run
# leaves them in an archive that later JVMs map (class data sharing). It holds for one Java and for
# class paths that begin like its own, on which no folder may stand but empty ones: a run with a
# HADOOP_CONF_DIR can use an archive, not make one. Where the class path is the user's, or the
# checkout is read-only, classes are loaded as ever. A change of this file makes a new one.
readonly ARCHIVE_DISK_MIB=1000 # an archive takes 200

may_archive_classes() {
  local chosen="${SPARK_DIST_CLASSPATH:-}${SPARK_SUBMIT_OPTS:-}$extra_jars"
  [[ -z $chosen && $SPARK_CONF_DIR == "$root/conf" && $root != *[:\"]* ]] &&
    grep -q '^spark\.master local' "$scratch/spark.properties" &&
    ! [[ "${spark_options[*]-}" =~ master|class-?path|ClassPath|java-options|JavaOptions|packages|spark\.jars ]] &&
    mkdir -p "$root/.cache/no-conf" 2>/dev/null
}

archive_classes() {
  local java=${JAVA_HOME:+$JAVA_HOME/bin/java} key
  java=$(readlink -f "${java:-$(command -v java)}")
  key=$(stat -c '%n %s %Y' "$java" "$root"/jars/*.jar "$SPARK_HOME/jars" "${BASH_SOURCE[0]}" |
    sha256sum | head -c 16)
  archive=$root/.cache/classes-$key.jsa
  export SPARK_CONF_DIR=$root/.cache/no-conf
  jars=$(printf '%s:' "$root"/jars/*.jar)
  options=(--properties-file "$scratch/spark.properties")
  options+=(--conf "spark.driver.extraClassPath=${jars%:}")
  SPARK_SUBMIT_OPTS="\"-Dlog4j2.configurationFile=$root/conf/log4j2.properties\" -Xlog:disable"
  if [[ -f $archive ]]; then
    SPARK_SUBMIT_OPTS+=" \"-XX:SharedArchiveFile=$archive\""
  elif may_make_archive; then
    new_archive=$archive.$$
    SPARK_SUBMIT_OPTS+=" \"-XX:ArchiveClassesAtExit=$new_archive\""
    export CAPTIONLAKE_ARCHIVES_CLASSES=1 # and those of HDFS, whatever the run reads
  fi
  export SPARK_SUBMIT_OPTS
}

# A JVM that can't write its archive ends with an exit code of its own.
may_make_archive() {
  [[ $job == caption_images && -z ${HADOOP_CONF_DIR:-}${YARN_CONF_DIR:-} && -w $root/.cache ]] &&
    (($(df -Pm "$root/.cache" | awk 'NR == 2 { print $4 }') > ARCHIVE_DISK_MIB))
}

keep_archive() {
  [[ -n ${new_archive:-} ]] || return 0
  if (($1 == 0)) && mv -f "$new_archive" "$archive" 2>/dev/null; then
    # Of another Java or other jars, or left by a run that was killed.
    find "$root/.cache" -name 'classes-*' ! -path "$archive" -delete || true
  else
    rm -f "$new_archive"
  fi
}
