using System.Buffers.Binary;

namespace Backend.Toolkit.Idempotency.PostgreSql;

/// <summary>
/// Saved phases as bytes that are only appended to, so that saving one is one statement without reading: the name's length and its UTF-16 (big-endian, so that every name is kept as it is), the value's length and the
/// value. The last entry of a name counts.
/// </summary>
internal static class PhaseLog
{
    public static byte[] Entry(string name, ReadOnlySpan<byte> value)
    {
        byte[] entry = new byte[8 + (2 * name.Length) + value.Length];
        BinaryPrimitives.WriteInt32BigEndian(entry, name.Length);
        for (int i = 0; i < name.Length; i++)
        {
            BinaryPrimitives.WriteUInt16BigEndian(entry.AsSpan(4 + (2 * i)), name[i]);
        }

        int at = 4 + (2 * name.Length);
        BinaryPrimitives.WriteInt32BigEndian(entry.AsSpan(at), value.Length);
        value.CopyTo(entry.AsSpan(at + 4));
        return entry;
    }

    public static Dictionary<string, ReadOnlyMemory<byte>> Read(byte[] log)
    {
        var phases = new Dictionary<string, ReadOnlyMemory<byte>>(StringComparer.Ordinal);
        for (int at = 0; at < log.Length;)
        {
            int length = BinaryPrimitives.ReadInt32BigEndian(log.AsSpan(at));
            string name = string.Create(length, (log, at), static (name, source) =>
            {
                for (int i = 0; i < name.Length; i++)
                {
                    name[i] = (char)BinaryPrimitives.ReadUInt16BigEndian(source.log.AsSpan(source.at + 4 + (2 * i)));
                }
            });
            at += 4 + (2 * length);
            length = BinaryPrimitives.ReadInt32BigEndian(log.AsSpan(at));
            phases[name] = log.AsMemory(at + 4, length);
            at += 4 + length;
        }

        return phases;
    }
}
