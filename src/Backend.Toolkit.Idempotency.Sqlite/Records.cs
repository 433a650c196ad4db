using System.Buffers.Binary;
using System.Text;
using Microsoft.Data.Sqlite;

namespace Backend.Toolkit.Idempotency.Sqlite;

/// <summary>The verbs, each within a transaction that is there: that of the caller, or one that holds the writer's lock.</summary>
internal sealed class Records(Statements sql)
{
    /// <summary>What is there, when that is the answer; null: the key is to be claimed, which needs the writer's lock.</summary>
    public IdempotencyClaim? Look(Session session, IdempotencyClaimRequest request) => Look(session, request, out _);

    public IdempotencyClaim Claim(Session session, IdempotencyClaimRequest request)
    {
        if (Look(session, request, out IdempotencyDigest? found) is { } answer)
        {
            return answer;
        }

        IdempotencyDigest key = found ?? request.Key;
        byte[] bytes = key.ToArray();
        long fence = (long)session.Scalar(sql.NextFence)!;
        long lease = Microseconds(request.Lease), life = Math.Max(lease, Microseconds(request.Retention));
        if (found is null)
        {
            session.Execute(sql.ForgetPhases, ("$key", bytes));
            session.Execute(sql.Insert, ("$key", bytes), ("$fingerprint", request.Fingerprint.ToArray()), ("$fence", fence), ("$lease", lease), ("$life", life));
            return IdempotencyClaim.Started(key, fence);
        }

        session.Execute(sql.TakeOver, ("$key", bytes), ("$fence", fence), ("$lease", lease), ("$life", life));
        return IdempotencyClaim.Started(key, fence, session.Read(sql.Phases, ReadPhases, ("$key", bytes)));
    }

    public bool Renew(Session session, IdempotencyDigest key, long fence, TimeSpan lease) =>
        session.Execute(sql.Renew, ("$key", key.ToArray()), ("$fence", fence), ("$lease", Microseconds(lease))) == 1;

    public bool SavePhase(Session session, IdempotencyDigest key, long fence, string phase, ReadOnlyMemory<byte> value) =>
        session.Execute(sql.SavePhase, ("$key", key.ToArray()), ("$fence", fence), ("$phase", PhaseName(phase)), ("$value", value.ToArray())) == 1;

    public bool Complete(Session session, IdempotencyDigest key, long fence, IdempotencyOutcome outcome, TimeSpan retention)
    {
        byte[] bytes = key.ToArray();
        int changed = session.Execute(
            sql.Complete,
            ("$key", bytes),
            ("$fence", fence),
            ("$state", outcome.IsTombstone ? 3 : 2),
            ("$status", outcome.Status),
            ("$content", outcome.IsTombstone ? null : outcome.Content.ToArray()),
            ("$retention", Microseconds(retention)));
        if (changed == 1)
        {
            session.Execute(sql.ForgetPhases, ("$key", bytes));
            return true;
        }

        // The answer to the first attempt may have been lost with an exception.
        return session.Scalar(sql.IsCompleted, ("$key", bytes), ("$fence", fence)) is not null;
    }

    public bool Abandon(Session session, IdempotencyDigest key, long fence)
    {
        byte[] bytes = key.ToArray();
        return session.Execute(sql.AbandonWithPhases, ("$key", bytes), ("$fence", fence)) == 1
            || session.Execute(sql.Abandon, ("$key", bytes), ("$fence", fence)) == 1;
    }

    public bool IsOwned(Session session, IdempotencyDigest key, long fence) => session.Scalar(sql.IsOwned, ("$key", key.ToArray()), ("$fence", fence)) is not null;

    public int CleanUp(Session session, int batch)
    {
        // One instant for both, or the second would take a record whose phases the first has left.
        object now = session.Scalar(Statements.Clock)!;
        session.Execute(sql.CleanUpPhases, ("$now", now), ("$batch", batch));
        return session.Execute(sql.CleanUp, ("$now", now), ("$batch", batch));
    }

    private static long Microseconds(TimeSpan duration) => (duration.Ticks + TimeSpan.TicksPerMicrosecond - 1) / TimeSpan.TicksPerMicrosecond;

    /// <summary>By code unit, as names that are no well-formed text would meet in UTF-8.</summary>
    private static byte[] PhaseName(string phase)
    {
        byte[] name = new byte[phase.Length * 2];
        for (int i = 0; i < phase.Length; i++)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(name.AsSpan(i * 2), phase[i]);
        }

        return name;
    }

    private static Dictionary<string, ReadOnlyMemory<byte>> ReadPhases(SqliteDataReader reader)
    {
        var phases = new Dictionary<string, ReadOnlyMemory<byte>>(StringComparer.Ordinal);
        while (reader.Read())
        {
            byte[] name = reader.GetFieldValue<byte[]>(0);
            var text = new StringBuilder(name.Length / 2);
            for (int i = 0; i + 1 < name.Length; i += 2)
            {
                text.Append((char)BinaryPrimitives.ReadUInt16LittleEndian(name.AsSpan(i)));
            }

            phases[text.ToString()] = reader.GetFieldValue<byte[]>(1);
        }

        return phases;
    }

    private IdempotencyClaim? Look(Session session, IdempotencyClaimRequest request, out IdempotencyDigest? found)
    {
        IdempotencyDigest? at = null;
        IdempotencyClaim? answer = session.Read(sql.Find, ReadRecord, ("$key", request.Key.ToArray()), ("$previous", request.PreviousKey?.ToArray()));
        found = at;
        return answer;

        IdempotencyClaim? ReadRecord(SqliteDataReader reader)
        {
            if (!reader.Read())
            {
                return null;
            }

            IdempotencyDigest key = reader.GetBoolean(0) ? request.Key : request.PreviousKey!.Value;
            at = key;
            if (!reader.GetFieldValue<byte[]>(1).AsSpan().SequenceEqual(request.Fingerprint.ToArray()))
            {
                return IdempotencyClaim.Mismatch(key);
            }

            long left = reader.GetInt64(4);
            return reader.GetInt32(3) switch
            {
                2 => IdempotencyClaim.Completed(key, new IdempotencyOutcome(reader.GetInt32(5), reader.IsDBNull(6) ? default : reader.GetFieldValue<byte[]>(6))),
                3 => IdempotencyClaim.Completed(key, IdempotencyOutcome.Tombstone(reader.GetInt32(5))),
                0 when left > 0 => IdempotencyClaim.InProgress(key, reader.GetInt64(2), TimeSpan.FromMicroseconds(left)),
                _ => null,
            };
        }
    }
}
