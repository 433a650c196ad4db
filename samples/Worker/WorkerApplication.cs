using System.Reflection;
using Backend.Toolkit.CircuitBreakers;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.Sqlite;
using Backend.Toolkit.RateLimiting;
using Backend.Toolkit.RetryPolicies;
using Backend.Toolkit.TimeoutBudgets;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Worker;

/// <summary>What the worker is made of.</summary>
internal static class WorkerApplication
{
    /// <summary>What can be set from outside, such as <c>--RetryPolicies:sms:MaxAttempts=5</c>.</summary>
    private static readonly Dictionary<string, Type> Sections = new(StringComparer.OrdinalIgnoreCase)
    {
        ["Worker"] = typeof(WorkerOptions),
        ["Idempotency:reminders"] = typeof(IdempotencyOptions),
        ["RetryPolicies:sms"] = typeof(RetryPolicyOptions),
        ["CircuitBreakers:sms"] = typeof(CircuitBreakerOptions),
        ["TimeoutBudgets:attempt"] = typeof(TimeoutBudgetOptions),
    };

    /// <summary>Whether somebody reads it: <c>--Section:name=value</c>, where the section has that name. What is logged can be set, too.</summary>
    public static bool IsSetting(string argument)
    {
        int equals = argument.IndexOf('=', StringComparison.Ordinal), name = equals < 0 ? -1 : argument.LastIndexOf(':', equals) + 1;
        return argument.StartsWith("--", StringComparison.Ordinal) && name > 2
            && (argument.StartsWith("--Logging:", StringComparison.OrdinalIgnoreCase)
                || (Sections.TryGetValue(argument[2..(name - 1)], out Type? options)
                    && options.GetProperty(argument[name..equals], BindingFlags.Public | BindingFlags.Instance | BindingFlags.IgnoreCase) is not null));
    }

    /// <param name="file">Holds the queue, and the record of what was done.</param>
    /// <param name="provider">Sends texts.</param>
    /// <param name="settings">As on the command line: <c>--Section:name=value</c>.</param>
    public static HostApplicationBuilder CreateBuilder(string file, SmsProvider provider, params string[] settings)
    {
        HostApplicationBuilder builder = Host.CreateApplicationBuilder(settings);
        builder.Logging.SetMinimumLevel(LogLevel.Warning);
        IServiceCollection services = builder.Services;

        services.AddOptions<WorkerOptions>().BindConfiguration("Worker").ValidateOnStart();
        services.AddSingleton<IValidateOptions<WorkerOptions>, WorkerOptionsValidation>();

        // The time for which the queue hides the message is all the time that there is: for waits, retries and the provider together.
        services.AddTimeoutBudget("message", (o, provider) => o.Total = provider.GetRequiredService<IOptions<WorkerOptions>>().Value.Visibility * 0.9);

        // Of two deliveries of one message one sends; the other waits, then has its answer. In the file, so that a restart does not send again.
        services.AddSqliteIdempotencyStore(o => o.ConnectionString = new SqliteConnectionStringBuilder { DataSource = file }.ToString());
        services.AddIdempotency("reminders", o =>
        {
            o.Lease = TimeSpan.FromSeconds(5);
            o.Retention = TimeSpan.FromDays(2); // longer than the queue keeps a message
            o.Duplicates = DuplicatePolicy.WaitAndReplay;
            o.TimeLeft = TimeoutBudget.TimeLeft;
        });

        services.AddRetryPolicy("sms", o =>
        {
            o.BaseDelay = TimeSpan.FromMilliseconds(50);
            o.ShouldRetry = exception => exception is SmsFailedException or TimeoutBudgetExceededException;
            o.TimeLeft = TimeoutBudget.TimeLeft;
        });

        // 40 of the 50 that the provider allows: what was let through and is still on its way may arrive late, one call of each consumer at most.
        services.AddTokenBucketLimiter("sms", o =>
        {
            o.Limits.Add(new RateLimit(SmsProvider.CallsPerSecond * 0.8, TimeSpan.FromSeconds(1), burst: 1));
            o.QueueLimit = 16;
            o.TimeLeft = TimeoutBudget.TimeLeft;
        });

        services.AddCircuitBreaker("sms", o =>
        {
            o.ConsecutiveFailures = 5;
            o.BreakDuration = TimeSpan.FromMilliseconds(500);
            o.MaxBreakDuration = TimeSpan.FromSeconds(1);
            o.IsFailure = exception => exception is SmsFailedException { Status: not 500 } or TimeoutBudgetExceededException; // the rest is about the message
        });

        services.AddTimeoutBudget("attempt", o => o.Total = TimeSpan.FromMilliseconds(500));

        // Each can be set from outside: see Sections.
        services.AddOptions<IdempotencyOptions>("reminders").BindConfiguration("Idempotency:reminders");
        services.AddOptions<RetryPolicyOptions>("sms").BindConfiguration("RetryPolicies:sms");
        services.AddOptions<CircuitBreakerOptions>("sms").BindConfiguration("CircuitBreakers:sms");
        services.AddOptions<TimeoutBudgetOptions>("attempt").BindConfiguration("TimeoutBudgets:attempt");

        services.AddSingleton(TimeProvider.System);
        services.AddSingleton(provider);
        services.AddSingleton(_ => new MessageQueue(file));
        services.AddSingleton<Sender>();
        services.AddSingleton<Consumer>();
        services.AddHostedService(provider => provider.GetRequiredService<Consumer>());
        return builder;
    }

    private sealed class WorkerOptionsValidation : IValidateOptions<WorkerOptions>
    {
        public ValidateOptionsResult Validate(string? name, WorkerOptions options) =>
            options.Problems().ToArray() is { Length: > 0 } problems ? ValidateOptionsResult.Fail(problems) : ValidateOptionsResult.Success;
    }
}
