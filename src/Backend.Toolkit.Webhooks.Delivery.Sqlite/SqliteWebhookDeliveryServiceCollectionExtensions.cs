using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;

namespace Backend.Toolkit.Webhooks.Delivery.Sqlite;

/// <summary>Registers the store in SQLite as the <see cref="IWebhookDeliveryStore"/>. Its options are validated at start-up; a <see cref="TimeProvider"/> is taken from the container.</summary>
public static class SqliteWebhookDeliveryServiceCollectionExtensions
{
    /// <summary>Adds a <see cref="SqliteWebhookDeliveryStore"/>, unless there is a store.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSqliteWebhookDeliveryStore(this IServiceCollection services, Action<SqliteWebhookDeliveryStoreOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IValidateOptions<SqliteWebhookDeliveryStoreOptions>, ProblemsValidation>());
        services.AddOptions<SqliteWebhookDeliveryStoreOptions>()
            .Configure(configure ?? (static _ => { }))
            .PostConfigure(static options => options.Name = "default")
            .ValidateOnStart();
        services.TryAddSingleton<IWebhookDeliveryStore>(static provider =>
            new SqliteWebhookDeliveryStore(provider.GetRequiredService<IOptions<SqliteWebhookDeliveryStoreOptions>>().Value, provider.GetService<TimeProvider>()));
        return services;
    }

    /// <summary>Adds a <see cref="SqliteWebhookDeliveryStore"/>, unless there is a store.</summary>
    /// <param name="services">The services.</param>
    /// <param name="configure">Sets the options, with the container at hand.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddSqliteWebhookDeliveryStore(this IServiceCollection services, Action<SqliteWebhookDeliveryStoreOptions, IServiceProvider> configure)
    {
        ArgumentNullException.ThrowIfNull(configure);
        services.AddOptions<SqliteWebhookDeliveryStoreOptions>().Configure(configure);
        return services.AddSqliteWebhookDeliveryStore();
    }

    private sealed class ProblemsValidation : IValidateOptions<SqliteWebhookDeliveryStoreOptions>
    {
        public ValidateOptionsResult Validate(string? name, SqliteWebhookDeliveryStoreOptions options)
        {
            List<string> problems = [.. options.Problems()];
            return problems.Count > 0 ? ValidateOptionsResult.Fail(problems) : ValidateOptionsResult.Success;
        }
    }
}
