using System.Security.Cryptography;
using System.Text;
using StackExchange.Redis;

namespace Backend.Toolkit.Idempotency.Redis;

/// <summary>A script that is called by its hash, and by its text where the server has forgotten it, or never knew it. (The driver would look the hash up by the text, which costs as much as the call.)</summary>
internal sealed class Script
{
    private readonly string _text;
    private readonly byte[] _hash;

    public Script(string text)
    {
        _text = text.ReplaceLineEndings("\n");

        // Redis knows scripts by their SHA-1.
        _hash = CryptographicOperations.HashData(HashAlgorithmName.SHA1, Encoding.UTF8.GetBytes(_text));
    }

    /// <summary>One round trip, also with <c>WAIT</c>: both are written to one connection, one behind the other, and a connection that breaks between the two fails the second.</summary>
    /// <param name="database">Where.</param>
    /// <param name="keys">The keys.</param>
    /// <param name="values">The other arguments.</param>
    /// <param name="wait">The arguments of <c>WAIT</c>; null: none.</param>
    /// <returns>The script's answer, and how many replicas have its writes.</returns>
    public async Task<(RedisResult Result, long Replicas)> EvaluateAsync(IDatabase database, RedisKey[] keys, RedisValue[] values, object[]? wait)
    {
        try
        {
            return await SendAsync(database, database => database.ScriptEvaluateAsync(_hash, keys, values, CommandFlags.DemandMaster), wait).ConfigureAwait(false);
        }
        catch (RedisServerException exception) when (exception.Message.StartsWith("NOSCRIPT", StringComparison.Ordinal))
        {
            return await SendAsync(database, database => database.ScriptEvaluateAsync(_text, keys, values, CommandFlags.DemandMaster), wait).ConfigureAwait(false);
        }
    }

    private static async Task<(RedisResult Result, long Replicas)> SendAsync(IDatabase database, Func<IDatabaseAsync, Task<RedisResult>> script, object[]? wait)
    {
        if (wait is null)
        {
            return (await script(database).ConfigureAwait(false), 0);
        }

        IBatch batch = database.CreateBatch();
        Task<RedisResult> call = script(batch);
        Task<RedisResult> replicated = batch.ExecuteAsync("WAIT", wait, CommandFlags.DemandMaster);
        batch.Execute();
        await ((Task)Task.WhenAll(call, replicated)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        RedisResult result = await call.ConfigureAwait(false);
        return (result, (long)await replicated.ConfigureAwait(false));
    }
}
