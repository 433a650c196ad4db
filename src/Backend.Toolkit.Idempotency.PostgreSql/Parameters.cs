using System.Globalization;
using Npgsql;
using NpgsqlTypes;

namespace Backend.Toolkit.Idempotency.PostgreSql;

/// <summary>Typed and by position, as prepared statements want them.</summary>
internal static class Parameters
{
    public static NpgsqlBatchCommand Statement(string sql, params ReadOnlySpan<NpgsqlParameter> parameters)
    {
        var command = new NpgsqlBatchCommand(sql);
        foreach (NpgsqlParameter parameter in parameters)
        {
            command.Parameters.Add(parameter);
        }

        return command;
    }

    public static NpgsqlParameter[] Outcome(IdempotencyDigest key, long fence, IdempotencyOutcome outcome, TimeSpan retention) =>
    [
        Key(key),
        Number(fence),
        Integer(outcome.Status),
        outcome.IsTombstone
            ? new NpgsqlParameter { NpgsqlDbType = NpgsqlDbType.Bytea, Value = DBNull.Value }
            : new NpgsqlParameter<ReadOnlyMemory<byte>> { NpgsqlDbType = NpgsqlDbType.Bytea, TypedValue = outcome.Content },
        Seconds(retention),
    ];

    public static NpgsqlParameter<byte[]> Key(IdempotencyDigest key) => Bytes(key.ToArray());

    public static NpgsqlParameter<byte[]> Bytes(byte[] bytes) => new() { NpgsqlDbType = NpgsqlDbType.Bytea, TypedValue = bytes };

    public static NpgsqlParameter<long> Number(long number) => new() { NpgsqlDbType = NpgsqlDbType.Bigint, TypedValue = number };

    public static NpgsqlParameter<int> Integer(int number) => new() { NpgsqlDbType = NpgsqlDbType.Integer, TypedValue = number };

    public static NpgsqlParameter<bool> Flag(bool flag) => new() { NpgsqlDbType = NpgsqlDbType.Boolean, TypedValue = flag };

    public static NpgsqlParameter<double> Seconds(TimeSpan duration) => new() { NpgsqlDbType = NpgsqlDbType.Double, TypedValue = duration.TotalSeconds };

    public static NpgsqlParameter<string> Text(string text) => new() { NpgsqlDbType = NpgsqlDbType.Text, TypedValue = text };

    /// <summary>As <c>lock_timeout</c> reads it: at least 1 ms, since 0 is none at all.</summary>
    public static NpgsqlParameter<string> Milliseconds(TimeSpan duration) =>
        Text(Math.Clamp(Math.Ceiling(duration.TotalMilliseconds), 1, int.MaxValue).ToString("F0", CultureInfo.InvariantCulture));
}
