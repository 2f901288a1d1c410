// The engagements of `input_stream` as a table `events` of Flink, and a script over it. The source is the one that Flink's SQL
// uses, with two things that its SQL cannot say: shards are spread evenly over the tasks, and each has a watermark of its own.
//   java FlinkCounts KINESIS-URL SHARDS SCRIPT

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.OffsetDateTime;
import java.util.Properties;
import org.apache.flink.formats.common.TimestampFormat;
import org.apache.flink.formats.json.JsonRowDataDeserializationSchema;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.timestamps.BoundedOutOfOrdernessTimestampExtractor;
import org.apache.flink.streaming.api.windowing.time.Time;
import org.apache.flink.streaming.connectors.kinesis.FlinkKinesisConsumer;
import org.apache.flink.streaming.connectors.kinesis.util.UniformShardAssigner;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;

public class FlinkCounts {
    static final DataType EVENT = DataTypes.ROW(
        DataTypes.FIELD("post_id", DataTypes.STRING()), DataTypes.FIELD("engagement_type", DataTypes.STRING()),
        DataTypes.FIELD("user_id", DataTypes.STRING()), DataTypes.FIELD("timestamp", DataTypes.STRING()));

    static class Watermarks extends BoundedOutOfOrdernessTimestampExtractor<RowData> {
        Watermarks() {
            super(Time.seconds(5));
        }

        @Override
        public long extractTimestamp(RowData row) {
            return OffsetDateTime.parse(row.getString(3).toString()).toInstant().toEpochMilli();
        }
    }

    public static void main(String[] given) throws Exception {
        StreamExecutionEnvironment job = StreamExecutionEnvironment.getExecutionEnvironment();
        job.setParallelism(Integer.parseInt(given[1]));
        job.enableCheckpointing(10_000);
        RowType type = (RowType) EVENT.getLogicalType();
        FlinkKinesisConsumer<RowData> source = new FlinkKinesisConsumer<>("input_stream", new JsonRowDataDeserializationSchema(
            type, InternalTypeInfo.of(type), false, false, TimestampFormat.ISO_8601), connection(given[0]));
        source.setShardAssigner(new UniformShardAssigner());
        source.setPeriodicWatermarkAssigner(new Watermarks());
        StreamTableEnvironment tables = StreamTableEnvironment.create(job);
        tables.createTemporaryView("events", job.addSource(source), Schema.newBuilder().fromRowDataType(EVENT)
            .columnByMetadata("engaged_at", DataTypes.TIMESTAMP_LTZ(3), "rowtime").watermark("engaged_at", "SOURCE_WATERMARK()").build());
        for (String statement : Files.readString(Path.of(given[2])).split(";"))
            if (!statement.isBlank()) tables.executeSql(statement);
    }

    static Properties connection(String url) {
        Properties options = new Properties();
        options.setProperty("aws.region", "us-east-1");
        options.setProperty("aws.endpoint", url);
        options.setProperty("aws.credentials.provider.basic.accesskeyid", "local");
        options.setProperty("aws.credentials.provider.basic.secretkey", "local");
        options.setProperty("flink.stream.initpos", "TRIM_HORIZON");
        return options;
    }
}
