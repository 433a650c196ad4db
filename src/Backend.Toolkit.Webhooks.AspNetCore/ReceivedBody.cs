using System.Buffers;

namespace Backend.Toolkit.Webhooks.AspNetCore;

/// <summary>
/// The raw bytes of a body: the first of them in rented memory, the rest in a temporary file that is gone when it is closed. Written by one, then read by any number at once, each at its own place. Counted as unverified until
/// <see cref="Accept"/>.
/// </summary>
internal sealed class ReceivedBody(UnverifiedBytes unverified, long maxUnverified, int maxInMemory) : IDisposable
{
    private const int FirstSize = 1024;
    private const long Reserved = 65_536;

    private byte[]? _memory = [];
    private int _inMemory;
    private long _counted;
    private FileStream? _file;

    public long Length { get; private set; }

    /// <summary>
    /// For a body of unknown length, which nobody can turn away by what it announces: takes its first bytes in advance, out of half of what there is, so that there are never more of these than the server has memory for.
    /// </summary>
    /// <returns>False: there is no room for another.</returns>
    public bool TryReserve(long mostBytes) => TryTake(Math.Min(Math.Min(mostBytes, Reserved), maxUnverified / 2), maxUnverified / 2);

    /// <summary>Counts bytes that are about to be appended.</summary>
    /// <returns>False: with these, more would be held than may be.</returns>
    public bool TryCount(long bytes) => Length + bytes <= _counted || TryTake(Length + bytes - _counted, maxUnverified);

    /// <exception cref="IOException">The temporary file cannot be written.</exception>
    public ValueTask AppendAsync(ReadOnlySequence<byte> bytes)
    {
        int fits = (int)Math.Min(bytes.Length, maxInMemory - _inMemory);
        if (fits > 0)
        {
            Grow(_inMemory + fits);
            bytes.Slice(0, fits).CopyTo(_memory.AsSpan(_inMemory));
            _inMemory += fits;
            Length += fits;
            bytes = bytes.Slice(fits);
        }

        return bytes.IsEmpty ? ValueTask.CompletedTask : WriteAsync(bytes);
    }

    /// <summary>It was verified: it is the application's from here on.</summary>
    public void Accept()
    {
        unverified.Give(_counted);
        _counted = 0;
    }

    public ReceivedBodyStream OpenRead()
    {
        ObjectDisposedException.ThrowIf(_memory is null, typeof(VerifiedWebhook));
        return new ReceivedBodyStream(this);
    }

    public int Read(long position, Span<byte> destination)
    {
        byte[] memory = Memory();
        if (position >= _inMemory)
        {
            return _file is null ? 0 : RandomAccess.Read(_file.SafeFileHandle, destination, position - _inMemory);
        }

        int count = (int)Math.Min(destination.Length, _inMemory - position);
        memory.AsSpan((int)position, count).CopyTo(destination);

        // What the handler has left behind may read while the request ends, and the memory is another's from then on.
        Interlocked.MemoryBarrier();
        if (_memory is null)
        {
            destination[..count].Clear();
            Memory();
        }

        return count;
    }

    public ValueTask<int> ReadAsync(long position, Memory<byte> destination, CancellationToken cancellationToken) =>
        cancellationToken.IsCancellationRequested ? ValueTask.FromCanceled<int>(cancellationToken)
        : position >= _inMemory && _file is not null && Memory() is not null ? RandomAccess.ReadAsync(_file.SafeFileHandle, destination, position - _inMemory, cancellationToken)
        : new ValueTask<int>(Read(position, destination.Span));

    public void Dispose()
    {
        Accept();
        byte[]? memory = Interlocked.Exchange(ref _memory, null);
        if (memory is { Length: > 0 })
        {
            ArrayPool<byte>.Shared.Return(memory);
        }

        _file?.Dispose();
    }

    /// <summary>Whoever reads after the end of the request would read another's body.</summary>
    private byte[] Memory()
    {
        byte[]? memory = _memory;
        ObjectDisposedException.ThrowIf(memory is null, typeof(VerifiedWebhook));
        return memory;
    }

    private bool TryTake(long bytes, long most)
    {
        if (!unverified.TryTake(bytes, most))
        {
            return false;
        }

        _counted += bytes;
        return true;
    }

    private void Grow(int needed)
    {
        if (needed <= _memory!.Length)
        {
            return;
        }

        byte[] larger = ArrayPool<byte>.Shared.Rent(Math.Min(maxInMemory, Math.Max(needed, Math.Max(FirstSize, 2 * _memory.Length))));
        _memory.AsSpan(0, _inMemory).CopyTo(larger);
        if (_memory.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(_memory);
        }

        _memory = larger;
    }

    private async ValueTask WriteAsync(ReadOnlySequence<byte> bytes)
    {
        _file ??= Create();
        foreach (ReadOnlyMemory<byte> segment in bytes)
        {
            await RandomAccess.WriteAsync(_file.SafeFileHandle, segment, Length - _inMemory, CancellationToken.None).ConfigureAwait(false);
            Length += segment.Length;
        }
    }

    /// <summary>Where the framework puts its own, and for nobody else to read.</summary>
    private static FileStream Create()
    {
        var options = new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.ReadWrite,
            Share = FileShare.None,
            Options = FileOptions.Asynchronous | FileOptions.DeleteOnClose,
            BufferSize = 0,
        };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }

        return new FileStream(Path.Combine(Environment.GetEnvironmentVariable("ASPNETCORE_TEMP") ?? Path.GetTempPath(), $"webhook-{Guid.NewGuid():N}.tmp"), options);
    }
}
