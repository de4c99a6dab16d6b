//! One whole life of an endpoint through the AWS SDK for Rust; prints one JSON line a step.
//! The steps and what must come of them: tests/support/client_life.py.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_sagemaker::client::Waiters;
use aws_sdk_sagemaker::config::http::HttpResponse;
use aws_sdk_sagemaker::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_sagemaker::operation::create_endpoint_config::builders::CreateEndpointConfigFluentBuilder;
use aws_sdk_sagemaker::operation::create_model::builders::CreateModelFluentBuilder;
use aws_sdk_sagemaker::operation::describe_endpoint::DescribeEndpointOutput;
use aws_sdk_sagemaker::primitives::DateTime;
use aws_sdk_sagemaker::types::builders::ProductionVariantBuilder;
use aws_sdk_sagemaker::types::{
    AsyncInferenceClientConfig, AsyncInferenceConfig, AsyncInferenceNotificationConfig,
    AsyncInferenceOutputConfig, AsyncNotificationTopicTypes, CaptureContentTypeHeader, CaptureMode,
    CaptureOption, ClarifyExplainerConfig, ClarifyInferenceConfig, ClarifyShapBaselineConfig,
    ClarifyShapConfig, ContainerDefinition, DataCaptureConfig, DesiredWeightAndCapacity,
    EndpointConfigSortKey, EndpointStatus, ExplainerConfig, MetricsConfig, OrderKey,
    ProductionVariant, ProductionVariantCoreDumpConfig, ProductionVariantInstanceType,
    ProductionVariantRoutingConfig, ProductionVariantServerlessConfig, RoutingStrategy, Tag,
    VpcConfig,
};
use aws_sdk_sagemakerruntime::operation::invoke_endpoint::builders::InvokeEndpointFluentBuilder;
use aws_sdk_sagemakerruntime::primitives::Blob;
use aws_sdk_sagemakerruntime::types::ResponseStream;
use serde_json::{json, Value};

/// What ends the program: it judges nothing, and no step may fail but those that say so.
type Fault = Box<dyn std::error::Error>;

const BUCKET: &str = "s3://life-outputs";
const PATIENCE: Duration = Duration::from_secs(90);

fn tell(step: &str, facts: Value) {
    let mut line = json!({ "step": step });
    line.as_object_mut()
        .unwrap()
        .append(&mut facts.as_object().unwrap().clone());
    println!("{line}");
}

fn refused<T, E>(step: &str, facts: Value, result: Result<T, SdkError<E, HttpResponse>>)
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let mut told = facts.as_object().unwrap().clone();
    match result {
        Ok(_) => {
            told.insert("code".into(), Value::Null);
        }
        Err(fault) => {
            let status = fault
                .raw_response()
                .map_or(0, |response| response.status().as_u16());
            let message = fault
                .message()
                .map_or_else(|| DisplayErrorContext(&fault).to_string(), str::to_owned);
            told.insert("code".into(), json!(fault.code()));
            told.insert("message".into(), json!(message));
            told.insert("status".into(), json!(status));
        }
    }
    tell(step, Value::Object(told));
}

fn seconds(moment: Option<&DateTime>) -> Option<f64> {
    moment.map(DateTime::as_secs_f64)
}

struct Life {
    name: String,
    image: String,
    role: String,
    url: String,
    rows: String,
    sagemaker: aws_sdk_sagemaker::Client,
    runtime: aws_sdk_sagemakerruntime::Client,
}

impl Life {
    fn variant(&self) -> ProductionVariantBuilder {
        ProductionVariant::builder()
            .variant_name("big")
            .model_name(&self.name)
            .initial_instance_count(1)
            .instance_type(ProductionVariantInstanceType::MlM5Large)
    }

    fn model(&self) -> CreateModelFluentBuilder {
        let container = ContainerDefinition::builder()
            .image(&self.image)
            .model_data_url(&self.url)
            .environment("GREETING", "ahoy")
            .build();
        self.sagemaker
            .create_model()
            .model_name(&self.name)
            .execution_role_arn(&self.role)
            .primary_container(container)
    }

    fn config(&self, name: &str) -> CreateEndpointConfigFluentBuilder {
        let big = self
            .variant()
            .initial_variant_weight(2.0)
            .enable_ssm_access(false);
        let small = self
            .variant()
            .variant_name("small")
            .initial_variant_weight(0.5);
        self.sagemaker
            .create_endpoint_config()
            .endpoint_config_name(name)
            .production_variants(big.build())
            .production_variants(small.build())
            .enable_network_isolation(false)
            .tags(Tag::builder().key("team").value("cellar").build())
    }

    /// A configuration of one variant, to which a group adds what it is about.
    fn group(
        &self,
        group: &str,
        variant: ProductionVariantBuilder,
    ) -> CreateEndpointConfigFluentBuilder {
        self.sagemaker
            .create_endpoint_config()
            .endpoint_config_name(format!("{}-{group}", self.name))
            .production_variants(variant.build())
    }

    fn configs_with_groups(&self) -> Vec<(&'static str, CreateEndpointConfigFluentBuilder)> {
        let plain = |group| self.group(group, self.variant());
        let vpc = VpcConfig::builder()
            .security_group_ids("sg-12345678")
            .subnets("subnet-12345678")
            .build();
        let metrics = MetricsConfig::builder()
            .enable_enhanced_metrics(true)
            .metric_publish_frequency_in_seconds(60)
            .build();
        let shadow = self
            .variant()
            .variant_name("shadow")
            .initial_variant_weight(0.5)
            .build();
        vec![
            (
                "data-capture",
                plain("data-capture").data_capture_config(data_capture()),
            ),
            (
                "kms-key",
                plain("kms-key").kms_key_id("1234abcd-12ab-34cd-56ef-1234567890ab"),
            ),
            (
                "async",
                plain("async").async_inference_config(async_inference()),
            ),
            (
                "explainer",
                plain("explainer").explainer_config(explainer()),
            ),
            ("role", plain("role").execution_role_arn(&self.role)),
            ("vpc", plain("vpc").vpc_config(vpc)),
            (
                "isolation",
                plain("isolation").enable_network_isolation(true),
            ),
            ("metrics", plain("metrics").metrics_config(metrics)),
            ("shadow", plain("shadow").shadow_production_variants(shadow)),
        ]
    }

    fn variants_with_groups(&self) -> Vec<(&'static str, ProductionVariantBuilder)> {
        let serverless = ProductionVariantServerlessConfig::builder()
            .memory_size_in_mb(2048)
            .max_concurrency(5)
            .provisioned_concurrency(1)
            .build();
        let core_dump = ProductionVariantCoreDumpConfig::builder()
            .destination_s3_uri(format!("{BUCKET}/cores"))
            .build();
        let routing = ProductionVariantRoutingConfig::builder()
            .routing_strategy(RoutingStrategy::LeastOutstandingRequests)
            .build();
        let of_no_instance = ProductionVariant::builder()
            .variant_name("big")
            .model_name(&self.name);
        vec![
            ("serverless", of_no_instance.serverless_config(serverless)),
            ("core-dump", self.variant().core_dump_config(core_dump)),
            ("volume", self.variant().volume_size_in_gb(16)),
            (
                "download-timeout",
                self.variant().model_data_download_timeout_in_seconds(600),
            ),
            (
                "startup-timeout",
                self.variant()
                    .container_startup_health_check_timeout_in_seconds(600),
            ),
            ("routing", self.variant().routing_config(routing)),
            ("shell-access", self.variant().enable_ssm_access(true)),
        ]
    }

    async fn models(&self) -> Result<(), Fault> {
        tell(
            "create-model",
            json!({ "arn": self.model().send().await?.model_arn() }),
        );
        let described = self
            .sagemaker
            .describe_model()
            .model_name(&self.name)
            .send()
            .await?;
        let container = described.primary_container().ok_or("no container")?;
        tell(
            "describe-model",
            json!({
                "name": described.model_name(),
                "arn": described.model_arn(),
                "role": described.execution_role_arn(),
                "image": container.image(),
                "url": container.model_data_url(),
                "environment": container.environment(),
                "created": seconds(described.creation_time()),
            }),
        );
        Ok(())
    }

    async fn configs(&self) -> Result<(), Fault> {
        for suffix in ["", "-2", "-3"] {
            let created = self
                .config(&format!("{}{suffix}", self.name))
                .send()
                .await?;
            tell(
                "create-config",
                json!({ "arn": created.endpoint_config_arn() }),
            );
        }
        let described = self
            .sagemaker
            .describe_endpoint_config()
            .endpoint_config_name(&self.name)
            .send()
            .await?;
        let variants: Vec<Value> = described
            .production_variants()
            .iter()
            .map(configured)
            .collect();
        tell(
            "describe-config",
            json!({
                "name": described.endpoint_config_name(),
                "arn": described.endpoint_config_arn(),
                "created": seconds(described.creation_time()),
                "variants": variants,
            }),
        );
        let mut listing = self
            .sagemaker
            .list_endpoint_configs()
            .name_contains(&self.name)
            .sort_by(EndpointConfigSortKey::Name)
            .sort_order(OrderKey::Ascending)
            .into_paginator()
            .page_size(2)
            .send();
        let mut pages: Vec<Vec<String>> = Vec::new();
        while let Some(page) = listing.next().await {
            let names = page?
                .endpoint_configs()
                .iter()
                .filter_map(|each| each.endpoint_config_name.clone())
                .collect();
            pages.push(names);
        }
        tell("list-configs", json!({ "pages": pages }));
        for (group, request) in self.configs_with_groups() {
            refused("group", json!({ "group": group }), request.send().await);
        }
        for (group, variant) in self.variants_with_groups() {
            refused(
                "group",
                json!({ "group": group }),
                self.group(group, variant).send().await,
            );
        }
        self.tags(described.endpoint_config_arn().unwrap_or_default())
            .await
    }

    async fn listed(&self, arn: &str) -> Result<Value, Fault> {
        let mut pages = self
            .sagemaker
            .list_tags()
            .resource_arn(arn)
            .into_paginator()
            .items()
            .send();
        let mut tags = BTreeMap::new();
        while let Some(tag) = pages.next().await {
            let tag = tag?;
            tags.insert(tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
        }
        Ok(json!({ "tags": tags }))
    }

    async fn tags(&self, arn: &str) -> Result<(), Fault> {
        let year = Tag::builder().key("year").value("1987").build();
        self.sagemaker
            .add_tags()
            .resource_arn(arn)
            .tags(year)
            .send()
            .await?;
        tell("add-tags", self.listed(arn).await?);
        self.sagemaker
            .delete_tags()
            .resource_arn(arn)
            .tag_keys("team")
            .send()
            .await?;
        tell("delete-tags", self.listed(arn).await?);
        Ok(())
    }

    async fn describe(&self) -> Result<DescribeEndpointOutput, Fault> {
        Ok(self
            .sagemaker
            .describe_endpoint()
            .endpoint_name(&self.name)
            .send()
            .await?)
    }

    /// Ask every half second while the endpoint is in a state; the SDK's own waiters ask twice a minute at most.
    async fn while_in(&self, states: &[EndpointStatus]) {
        while let Ok(described) = self.describe().await {
            if !described
                .endpoint_status()
                .is_some_and(|status| states.contains(status))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn endpoint(&self) -> Result<(), Fault> {
        let created = self
            .sagemaker
            .create_endpoint()
            .endpoint_name(&self.name)
            .endpoint_config_name(&self.name)
            .send()
            .await?;
        tell("create-endpoint", json!({ "arn": created.endpoint_arn() }));
        tell(
            "describe-new",
            json!({ "status": self.describe().await?.endpoint_status().map(EndpointStatus::as_str) }),
        );
        self.while_in(&[EndpointStatus::Creating]).await;
        self.sagemaker
            .wait_until_endpoint_in_service()
            .endpoint_name(&self.name)
            .wait(PATIENCE)
            .await?;
        tell("wait-in-service", json!({ "state": "SUCCESS" }));
        tell("describe-endpoint", endpoint_facts(&self.describe().await?));
        let mut listing = self
            .sagemaker
            .list_endpoints()
            .name_contains(&self.name)
            .into_paginator()
            .page_size(1)
            .items()
            .send();
        let mut names = Vec::new();
        while let Some(each) = listing.next().await {
            let each = each?;
            names.push(format!(
                "{} {}",
                each.endpoint_name().unwrap_or_default(),
                each.endpoint_status().map_or("", EndpointStatus::as_str)
            ));
        }
        tell("list-endpoints", json!({ "names": names }));
        Ok(())
    }

    fn invocation(&self) -> InvokeEndpointFluentBuilder {
        self.runtime
            .invoke_endpoint()
            .endpoint_name(&self.name)
            .content_type("text/csv")
            .accept("application/json")
            .target_variant("small")
            .body(Blob::new(self.rows.as_bytes()))
    }

    async fn invoke(&self) -> Result<(), Fault> {
        let answer = self.invocation().send().await?;
        let body = answer
            .body()
            .map(|body| String::from_utf8_lossy(body.as_ref()).into_owned());
        tell(
            "invoke",
            json!({ "variant": answer.invoked_production_variant(), "type": answer.content_type(), "body": body }),
        );
        Ok(())
    }

    async fn stream(&self) -> Result<(), Fault> {
        let mut answer = self
            .runtime
            .invoke_endpoint_with_response_stream()
            .endpoint_name(&self.name)
            .content_type("text/csv")
            .accept("application/json")
            .target_variant("small")
            .body(Blob::new(self.rows.as_bytes()))
            .send()
            .await?;
        let mut body = Vec::new();
        while let Some(event) = answer.body.recv().await? {
            if let ResponseStream::PayloadPart(part) = event {
                body.extend_from_slice(part.bytes().map_or(&[], |bytes| bytes.as_ref()));
            }
        }
        let body = String::from_utf8_lossy(&body);
        tell(
            "stream",
            json!({ "variant": answer.invoked_production_variant(), "type": answer.content_type(), "body": body }),
        );
        Ok(())
    }

    async fn errors(&self) -> Result<(), Fault> {
        let missing = format!("{}-missing", self.name);
        let case = |name: &str| json!({ "case": name });
        refused(
            "error",
            case("missing-model"),
            self.sagemaker
                .describe_model()
                .model_name(&missing)
                .send()
                .await,
        );
        refused("error", case("existing-model"), self.model().send().await);
        refused(
            "error",
            case("existing-config"),
            self.config(&self.name).send().await,
        );
        let bad = self
            .variant()
            .instance_type("ml.nonsense".into())
            .initial_variant_weight(-1.0);
        let request = self
            .sagemaker
            .create_endpoint_config()
            .endpoint_config_name("bad_name")
            .production_variants(bad.build());
        refused("error", case("constraints"), request.send().await);
        refused(
            "error",
            case("missing-endpoint"),
            self.invocation().endpoint_name(&missing).send().await,
        );
        self.model_error().await;
        self.not_built().await;
        // The first two answers to this request are lost on the way: the SDK sends it again, twice.
        let lost = format!("{}-lost", self.name);
        refused("lost", json!({}), self.config(&lost).send().await);
        let kept = self
            .sagemaker
            .describe_endpoint_config()
            .endpoint_config_name(&lost)
            .send()
            .await?;
        tell("kept", json!({ "arn": kept.endpoint_config_arn() }));
        Ok(())
    }

    async fn model_error(&self) {
        let Err(fault) = self
            .invocation()
            .content_type("application/x-nonsense")
            .send()
            .await
        else {
            return;
        };
        let status = fault
            .raw_response()
            .map(|response| response.status().as_u16());
        let fault = fault.into_service_error();
        let code = fault.code().map(str::to_owned);
        if let aws_sdk_sagemakerruntime::operation::invoke_endpoint::InvokeEndpointError::ModelError(model) = fault {
            tell(
                "model-error",
                json!({
                    "code": code,
                    "message": model.message(),
                    "status": status,
                    "original": model.original_status_code(),
                    "text": model.original_message(),
                    "log": model.log_stream_arn(),
                }),
            );
        }
    }

    /// What Moorage does not have yet: asynchronous inference.
    async fn not_built(&self) {
        let later = self
            .runtime
            .invoke_endpoint_async()
            .endpoint_name(&self.name)
            .input_location("s3://rows/input.csv");
        refused("not-built", json!({ "case": "async" }), later.send().await);
    }

    async fn change(&self) -> Result<(), Fault> {
        let big = DesiredWeightAndCapacity::builder()
            .variant_name("big")
            .desired_weight(1.0)
            .desired_instance_count(2);
        let small = DesiredWeightAndCapacity::builder()
            .variant_name("small")
            .desired_weight(3.5);
        let changed = self
            .sagemaker
            .update_endpoint_weights_and_capacities()
            .endpoint_name(&self.name)
            .desired_weights_and_capacities(big.build())
            .desired_weights_and_capacities(small.build())
            .send()
            .await?;
        tell("update-weights", json!({ "arn": changed.endpoint_arn() }));
        self.while_in(&[EndpointStatus::Updating]).await;
        tell("describe-changed", endpoint_facts(&self.describe().await?));
        let other = format!("{}-2", self.name);
        let updated = self
            .sagemaker
            .update_endpoint()
            .endpoint_name(&self.name)
            .endpoint_config_name(other)
            .send()
            .await?;
        tell("update-endpoint", json!({ "arn": updated.endpoint_arn() }));
        self.while_in(&[EndpointStatus::Updating]).await;
        tell("describe-updated", endpoint_facts(&self.describe().await?));
        Ok(())
    }

    async fn end(&self) -> Result<(), Fault> {
        self.sagemaker
            .delete_endpoint()
            .endpoint_name(&self.name)
            .send()
            .await?;
        self.while_in(&[EndpointStatus::Deleting]).await;
        self.sagemaker
            .wait_until_endpoint_deleted()
            .endpoint_name(&self.name)
            .wait(PATIENCE)
            .await?;
        tell("wait-deleted", json!({ "state": "SUCCESS" }));
        for suffix in ["", "-2", "-3", "-lost"] {
            let name = format!("{}{suffix}", self.name);
            self.sagemaker
                .delete_endpoint_config()
                .endpoint_config_name(name)
                .send()
                .await?;
        }
        self.sagemaker
            .delete_model()
            .model_name(&self.name)
            .send()
            .await?;
        let kind = |name: &str| json!({ "kind": name });
        refused(
            "gone",
            kind("endpoint"),
            self.sagemaker
                .describe_endpoint()
                .endpoint_name(&self.name)
                .send()
                .await,
        );
        let config = self
            .sagemaker
            .describe_endpoint_config()
            .endpoint_config_name(&self.name)
            .send()
            .await;
        refused("gone", kind("config"), config);
        refused(
            "gone",
            kind("model"),
            self.sagemaker
                .describe_model()
                .model_name(&self.name)
                .send()
                .await,
        );
        Ok(())
    }
}

fn data_capture() -> DataCaptureConfig {
    DataCaptureConfig::builder()
        .enable_capture(true)
        .initial_sampling_percentage(50)
        .destination_s3_uri(format!("{BUCKET}/captured"))
        .capture_options(
            CaptureOption::builder()
                .capture_mode(CaptureMode::Input)
                .build(),
        )
        .capture_options(
            CaptureOption::builder()
                .capture_mode(CaptureMode::Output)
                .build(),
        )
        .capture_content_type_header(
            CaptureContentTypeHeader::builder()
                .csv_content_types("text/csv")
                .json_content_types("application/json")
                .build(),
        )
        .build()
}

fn async_inference() -> AsyncInferenceConfig {
    let notification = AsyncInferenceNotificationConfig::builder()
        .success_topic("arn:aws:sns:us-east-1:000000000000:success")
        .error_topic("arn:aws:sns:us-east-1:000000000000:error")
        .include_inference_response_in(AsyncNotificationTopicTypes::SuccessNotificationTopic)
        .build();
    let output = AsyncInferenceOutputConfig::builder()
        .s3_output_path(format!("{BUCKET}/answers"))
        .s3_failure_path(format!("{BUCKET}/failures"))
        .notification_config(notification)
        .build();
    AsyncInferenceConfig::builder()
        .client_config(
            AsyncInferenceClientConfig::builder()
                .max_concurrent_invocations_per_instance(4)
                .build(),
        )
        .output_config(output)
        .build()
}

fn explainer() -> ExplainerConfig {
    let baseline = ClarifyShapBaselineConfig::builder()
        .mime_type("text/csv")
        .shap_baseline("1,2")
        .build();
    let inference = ClarifyInferenceConfig::builder()
        .max_record_count(10)
        .feature_headers("alcohol")
        .feature_headers("ash");
    let clarify = ClarifyExplainerConfig::builder()
        .enable_explanations("`true`")
        .inference_config(inference.build())
        .shap_config(
            ClarifyShapConfig::builder()
                .shap_baseline_config(baseline)
                .number_of_samples(20)
                .build(),
        );
    ExplainerConfig::builder()
        .clarify_explainer_config(clarify.build())
        .build()
}

fn configured(variant: &ProductionVariant) -> Value {
    json!({
        "name": variant.variant_name(),
        "model": variant.model_name(),
        "count": variant.initial_instance_count(),
        "type": variant.instance_type().map(ProductionVariantInstanceType::as_str),
        "weight": variant.initial_variant_weight(),
    })
}

fn endpoint_facts(described: &DescribeEndpointOutput) -> Value {
    let variants: Vec<Value> = described
        .production_variants()
        .iter()
        .map(|each| {
            let image = each.deployed_images().first();
            json!({
                "name": each.variant_name(),
                "weights": [each.current_weight(), each.desired_weight()],
                "counts": [each.current_instance_count(), each.desired_instance_count()],
                "image": image.and_then(|image| image.specified_image()),
                "resolved": image.and_then(|image| image.resolved_image()),
            })
        })
        .collect();
    json!({
        "status": described.endpoint_status().map(EndpointStatus::as_str),
        "config": described.endpoint_config_name(),
        "created": seconds(described.creation_time()),
        "modified": seconds(described.last_modified_time()),
        "variants": variants,
    })
}

fn given(name: &str) -> Result<String, Fault> {
    std::env::var(name).map_err(|_| format!("{name} is not set").into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let plain_http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(plain_http)
        .load()
        .await;
    let life = Life {
        name: given("LIFE_NAME")?,
        image: given("LIFE_IMAGE")?,
        role: given("LIFE_ROLE")?,
        url: given("LIFE_MODEL_DATA")?,
        rows: given("LIFE_ROWS")?,
        sagemaker: aws_sdk_sagemaker::Client::new(&config),
        runtime: aws_sdk_sagemakerruntime::Client::new(&config),
    };
    life.models().await?;
    life.configs().await?;
    life.endpoint().await?;
    life.invoke().await?;
    life.stream().await?;
    life.errors().await?;
    life.change().await?;
    life.end().await
}
