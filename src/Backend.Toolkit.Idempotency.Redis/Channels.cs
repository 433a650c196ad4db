using StackExchange.Redis;

namespace Backend.Toolkit.Idempotency.Redis;

/// <summary>
/// One subscription for each record that is waited for, shared by all who wait here, and gone with the last of them. Subscribing to a channel again comes after the end of the
/// former subscription, so that the two never overtake each other.
/// </summary>
internal sealed class Channels(ISubscriber subscriber)
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, Channel> _channels = new(StringComparer.Ordinal);

    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _channels.Count;
            }
        }
    }

    public Channel Join(string name)
    {
        lock (_gate)
        {
            if (_channels.TryGetValue(name, out Channel? channel) && channel.Waiters > 0)
            {
                channel.Waiters++;
                return channel;
            }

            var fresh = new Channel(name);
            fresh.Ready = SubscribeAsync(fresh, channel?.Closed ?? Task.CompletedTask);
            _channels[name] = fresh;
            return fresh;
        }
    }

    public void Leave(Channel channel)
    {
        lock (_gate)
        {
            if (--channel.Waiters == 0)
            {
                channel.Closed = UnsubscribeAsync(channel);
            }
        }
    }

    private async Task SubscribeAsync(Channel channel, Task former)
    {
        // Yields: the caller holds the lock.
        await former.ConfigureAwait(ConfigureAwaitOptions.ForceYielding);
        await subscriber.SubscribeAsync(RedisChannel.Literal(channel.Name), Handler(channel)).ConfigureAwait(false);
    }

    private async Task UnsubscribeAsync(Channel channel)
    {
        await channel.Ready.ConfigureAwait(ConfigureAwaitOptions.ForceYielding | ConfigureAwaitOptions.SuppressThrowing);
        try
        {
            await subscriber.UnsubscribeAsync(RedisChannel.Literal(channel.Name), Handler(channel)).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is RedisException or TimeoutException or ObjectDisposedException)
        {
            // The driver has forgotten the handler before it tells the server; and a server that was not told has lost the connection, or drops the message.
        }

        lock (_gate)
        {
            if (_channels.TryGetValue(channel.Name, out Channel? now) && now == channel)
            {
                _channels.Remove(channel.Name);
            }
        }
    }

    /// <summary>Delegates to the same method of the same object are equal.</summary>
    private static Action<RedisChannel, RedisValue> Handler(Channel channel) => channel.Receive;
}
